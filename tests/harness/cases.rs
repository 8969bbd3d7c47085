//! A small harness, for programs that tests call by other words, too; `--list` and `--exact` are as
//! `cargo nextest` wants them.

use std::process::ExitCode;

/// A test and its name.
pub(crate) type Test = (&'static str, fn());

/// Runs those of the tests that the words name.
pub(crate) fn run(tests: &[Test], words: &[&str]) -> ExitCode {
    let is = |flag: &str| words.contains(&flag);
    let names = words.iter().filter(|word| !word.starts_with('-'));
    let any = names.clone().next().is_none();
    let wanted = |name: &str| {
        let named = |wanted: &&str| name == *wanted || (!is("--exact") && name.contains(*wanted));
        any || names.clone().copied().any(|wanted| named(&wanted))
    };
    if is("--list") {
        for (name, _) in tests.iter().filter(|_| !is("--ignored")) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests.iter().filter(|(name, _)| wanted(name)) {
        let good = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        *(if good { &mut passed } else { &mut failed }) += 1;
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured");
    ExitCode::from(u8::from(failed > 0))
}
