//! Texts as a unit file takes them, so that they mean there what they say. Pure.
//!
//! Sources: systemd.syntax(7) for quotes and escapes, systemd.unit(5) for specifiers (`%`),
//! systemd.service(5) for command lines.

use std::fmt::Write as _;

/// One word of a command line or one assignment of a variable, in double quotes.
pub(super) fn word(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '%' => quoted.push_str("%%"),
            c if c.is_control() => {
                // Writing to a text cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Adds a variable as a file of them takes it (systemd.exec(5), "EnvironmentFile=").
pub(super) fn assignment(lines: &mut String, name: &str, value: &str) {
    lines.push_str(name);
    lines.push_str("=\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            lines.push('\\');
        }
        lines.push(c);
    }
    lines.push_str("\"\n");
}

/// A command line, taken as it is: no variable of the environment is put into it.
pub(super) fn command(words: &[String]) -> String {
    let mut words = words.iter();
    let program = words.next().map(|program| word(&format!(":{program}")));
    let arguments = words.map(|argument| word(argument));
    program
        .into_iter()
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A path that stands alone after `=`, where neither quotes nor escapes are known.
///
/// # Errors
/// Why it cannot stand there.
pub(super) fn path(text: &str) -> Result<String, String> {
    let refused = |why: &str| Err(format!("{text:?} cannot stand in a unit: {why}"));
    if !text.starts_with('/') {
        return refused("it is not an absolute path");
    }
    if text.contains(char::is_control) || text.contains('\\') || text.trim() != text {
        return refused("it holds control characters, backslashes or space at its end");
    }
    Ok(text.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_word_ends_it_or_its_line() {
        for (text, quoted) in [
            ("plain", r#""plain""#),
            ("two words", r#""two words""#),
            (r#"say "no""#, r#""say \"no\"""#),
            (r"back\slash", r#""back\\slash""#),
            (
                "line\n[Service]\nUser=root",
                r#""line\n[Service]\nUser=root""#,
            ),
            ("50% %h %n", r#""50%% %%h %%n""#),
            ("$HOME ${HOME}", r#""$HOME ${HOME}""#),
            ("\r\u{1b}\u{85}", r#""\u000d\u001b\u0085""#),
            (";", r#"";""#),
            ("ünï", r#""ünï""#),
        ] {
            assert_eq!(word(text), quoted);
        }
    }

    #[test]
    fn nothing_in_a_variable_ends_it() {
        let mut lines = String::new();
        assignment(&mut lines, "A", "say \"no\" \\ $HOME `id` 50% # ;\nB=x");
        assignment(&mut lines, "C", "");
        let expected = "A=\"say \\\"no\\\" \\\\ \\$HOME \\`id\\` 50% # ;\nB=x\"\nC=\"\"\n";
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_program_is_told_not_to_look_for_variables() {
        let words = ["/bin/echo".to_owned(), "$HOME".to_owned(), ";".to_owned()];
        assert_eq!(command(&words), r#"":/bin/echo" "$HOME" ";""#);
    }

    #[test]
    fn a_path_without_quotes_is_plain_or_refused() {
        assert_eq!(path("/srv/a b/100%").unwrap(), "/srv/a b/100%%");
        for bad in ["relative", "/a\nUser=root", "/a\\", "/a ", "~", "-/a"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }
}
