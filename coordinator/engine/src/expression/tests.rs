//! What is asked and answered, what is refused and how it says so, and that nothing takes long.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NAMES: [&str; 6] = [
    "service",
    "environment",
    "release",
    "deployment",
    "observed",
    "workload",
];

fn parse(text: &str) -> Result<Expression, ExpressionError> {
    Expression::parse(text, &NAMES)
}

fn refused(text: &str) -> String {
    let error = parse(text).expect_err(text);
    match error.help() {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    }
}

fn holds(text: &str, values: &serde_json::Value) -> Result<bool, String> {
    parse(text).expect(text).holds(values)
}

fn values() -> serde_json::Value {
    json!({
        "service": {"name": "web", "labels": {"team": "shop"}},
        "release": {"number": 12, "commit": "0f3a", "size": 1.5},
        "observed": {"targets": [
            {"name": "a", "ready": true, "restarts": 0},
            {"name": "b", "ready": true, "restarts": 3},
        ]},
        "workload": {"image": "registry.internal/web:1.2", "ports": [80, 443]},
    })
}

#[test]
fn a_question_over_values_is_answered() {
    for (text, answer) in [
        ("workload.image.startsWith('registry.internal/')", true),
        ("release.number == 12 && release.size < 2.0", true),
        ("release.number + 1 == 13", true),
        ("has(release.commit) && !has(release.author)", true),
        ("observed.targets.all(t, t.ready && t.restarts <= 3)", true),
        ("observed.targets.exists(t, t.restarts > 3)", false),
        ("observed.targets.exists_one(t, t.name == 'a')", true),
        (
            "size(observed.targets.filter(t, t.restarts > 0)) == 1",
            true,
        ),
        (
            "observed.targets.filter(t, t.ready).exists(t, t.name == 'b')",
            true,
        ),
        ("443 in workload.ports && !('x' in service.labels)", true),
        ("service.labels.all(l, l != 'secret')", true),
        ("service.labels['team'] in ['shop', 'search']", true),
        (
            "workload.image.matches(r'^registry\\.internal/[a-z]+:\\d{1,3}')",
            true,
        ),
        ("release.commit.matches('^[0-9a-f]{40}$')", false),
        (
            "size(release.commit) == 4 ? true : release.number > 3 // why",
            true,
        ),
        ("string(release.number) + '.0' == \"12.0\"", true),
        ("true", true),
    ] {
        assert_eq!(holds(text, &values()), Ok(answer), "{text}");
    }
}

#[test]
fn what_has_no_answer_says_why() {
    for (text, why) in [
        ("release.author == 'x'", "`release.author` is not there"),
        ("deployment.phase == 'x'", "`deployment` is not there"),
        ("service.labels['owner'] == 'x'", "`owner` is not there"),
        (
            "observed.targets.all(t, t.healthy)",
            "`healthy` is not there",
        ),
        (
            "release.commit",
            "it must be true or false, and is a string",
        ),
        ("release", "it must be true or false, and is a map"),
        ("release.number && true", "`&&` is not for int and bool"),
        ("!release.commit", "`!` is not for string"),
        (
            "release.commit ? true : false",
            "a value is string, where bool is needed",
        ),
        (
            "release.commit.short == 'x'",
            "a value is string, and has no fields",
        ),
        ("release.commit > 3", "`>` is not for string and int"),
        (
            "release.commit + 1 == 2",
            "`+` is not for a string and a number",
        ),
        (
            "release.commit in release.number",
            "`in` is not for string and int",
        ),
        (
            "observed.targets['x'] == 1",
            "`[]` is not for list and string",
        ),
        ("observed.targets[7].ready", "a list is shorter than that"),
        ("release.number / 0 == 1", "a number is divided by zero"),
        (
            "release.number * 9223372036854775807 == 1",
            "a number is too large",
        ),
        (
            "release.number.startsWith('1')",
            "`startsWith` is not for int and string",
        ),
        (
            "int(release.commit) == 3",
            "`int` has no answer for what it is given",
        ),
        (
            "service.labels.all(l, release.number.contains(l))",
            "it has no answer for an entry of a map",
        ),
    ] {
        assert_eq!(holds(text, &values()), Err(why.to_owned()), "{text}");
    }
    assert!(holds("true", &json!(null)).is_ok());
    assert_eq!(
        holds("release.number == 1", &json!([])),
        Err("`release` is not there".to_owned())
    );
}

#[test]
fn what_is_no_question_is_refused_with_its_place() {
    for (text, why) in [
        ("", "the expression is empty"),
        (
            "release.number ==",
            "the expression is no CEL: it ends too early (column 18)",
        ),
        (
            "release..x",
            "the expression is no CEL: no viable alternative at input '..' (column 9)",
        ),
        (
            "release.number = 3",
            "CEL has no `=` (column 16); write `==` to compare",
        ),
        ("a ; b", "CEL has no `;` (column 3)"),
        ("release.number == 3)", "`)` closes nothing (column 20)"),
        ("(release.number == 3", "`)` is missing for this (column 1)"),
        ("[release.number)", "`]` is expected, not `)` (column 16)"),
        (
            "release.commit == 'x",
            "the string has no end: ' is missing (column 19)",
        ),
        (
            r"release.commit == '\d'",
            r"`\d` is no escape; write `\\` for a backslash (column 19)",
        ),
        (
            r"release.commit == '\u12'",
            r"`\u` is followed by 4 digits (column 19)",
        ),
        (
            "google.protobuf.Duration{seconds: 1} == release.at",
            "there are no messages of this kind here (column 25)",
        ),
        (
            "has(release)",
            "the expression is no CEL: invalid argument to has() macro (column 5)",
        ),
    ] {
        assert_eq!(refused(text), why, "{text}");
    }
}

#[test]
fn names_and_functions_that_are_not_known_are_refused_with_those_that_are() {
    for (text, why) in [
        (
            "true\n&& relaese.number == 3",
            "there is no `relaese` here (line 2, column 4); did you mean `release`?",
        ),
        (
            "'ä' != 'ö' && observed.y.startsWith(relese.n)",
            "there is no `relese` here (column 37); did you mean `release`?",
        ),
        (
            "t.name == 'a' && observed.targets.all(t, t.ready)",
            "there is no `t` here (column 1); known are service, environment, release, \
             deployment, observed, workload",
        ),
        (
            "release.commit.startWith('x')",
            "there is no function `startWith` here (column 16); did you mean `startsWith`?",
        ),
        (
            "now() > 3",
            "there is no function `now` here (column 1); known are size, contains, startsWith, \
             endsWith, matches, string, int, uint, double, bool",
        ),
    ] {
        assert_eq!(refused(text), why, "{text}");
    }
    for text in [
        "timestamp(release.at) < 3",
        "release.at > duration('1h')",
        "type(release) == map",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_certainly_not_true_or_false_is_refused() {
    for (text, is, column) in [
        ("1 + 1", "a sum", 3),
        ("'yes'", "a string", 1),
        ("true && size(service.name)", "a number", 9),
        ("release.number > 1 ? 'a' : true", "a string", 22),
        ("[true]", "a list", 1),
        ("{'a': true}", "a map", 1),
        ("-release.number", "a number", 1),
        ("!null", "null", 2),
        ("string(release.number)", "a string", 1),
    ] {
        let why = format!(
            "this is {is}, neither true nor false (column {column}); compare it to something, as \
             in `size(x) > 0`"
        );
        assert_eq!(refused(text), why, "{text}");
    }
}

#[test]
fn what_could_take_too_long_is_refused() {
    let instead = "ask with all(), exists(), exists_one() or filter()";
    for (text, why) in [
        (
            "observed.a.all(x, observed.b.exists(y, x == y))",
            "a loop stands in another one: it could take too long (column 36); ask for one list \
             only, or let a protection with a program ask",
        ),
        (
            "observed.targets.map(t, t.name) == []",
            &format!(
                "there is no map() here: its result could be too large (column 21); {instead}"
            ),
        ),
        (
            "observed.targets.filter(t, t.ready)[0].ready",
            "what filter() finds has no order (column 24); ask for its size(), or with exists() \
             or all()",
        ),
        (
            "(observed.a + observed.b).all(x, x)",
            "a loop runs over lists that are joined with `+` (column 30); ask each list, and join \
             the answers with `&&` or `||`",
        ),
        (
            "release.commit.matches(release.pattern)",
            "the pattern of matches() is a string in quotes (column 16)",
        ),
        (
            "release.commit.matches('(')",
            "the pattern is no regular expression (column 16)",
        ),
        (
            "release.commit.matches('(a{99}){99}')",
            "the pattern is too large (column 16); it may have 128 bytes, and its repetitions {n} \
             may multiply to 128",
        ),
        (
            "observed.targets.all(t, t.name.matches('a'))",
            "matches() does not stand in a loop: it could take too long (column 32); use \
             startsWith(), endsWith() or contains()",
        ),
    ] {
        assert_eq!(refused(text), why, "{text}");
    }
    let five = ["release.commit.matches('a')"; 5].join(" || ");
    assert!(
        refused(&five).starts_with("more than 4 times matches()"),
        "{five}"
    );
}

#[test]
fn what_is_too_long_or_too_deep_is_refused_and_the_deepest_that_is_not_works() {
    let long = format!("release.commit == '{}'", "x".repeat(TEXT_MAX_BYTES));
    assert!(refused(&long).starts_with("the expression has 1044 bytes, and may have 1024"));
    let nested = |open: &str, close: &str, n: usize| {
        let text = format!("{}release.ok{}", open.repeat(n), close.repeat(n));
        parse(&text).map(|expression| expression.holds(&json!({"release": {"ok": true}})))
    };
    for (open, close, levels) in [
        ("(", ")", 1),
        ("!!(", ")", 1),
        ("true && (", ")", 1),
        ("bool(", ")", 1),
        ("true ? (", ") : false", 2),
        ("false ? false : ", "", 1),
    ] {
        let most = NESTING_MAX / levels;
        assert_eq!(nested(open, close, most).expect(open), Ok(true), "{open}");
        for deeper in [most + 1, 40, 55] {
            let error = nested(open, close, deeper).expect_err(open);
            assert_eq!(error.problem(), "the expression nests too deep", "{open}");
        }
    }
    for (link, most) in [
        ("+1", 95),
        (".a", 95),
        ("[0]", 95),
        ("==1", 95),
        (".size()", 47),
    ] {
        let chain = |n: usize| parse(&format!("release{}==1", link.repeat(n)));
        assert_eq!(chain(most).map(drop), Ok(()), "{link}");
        let error = chain(most + 1).expect_err(link);
        assert_eq!(error.problem(), "the expression nests too deep", "{link}");
    }
}

#[test]
fn a_bracket_in_a_string_or_a_comment_does_not_hide_one_outside() {
    let (deep, closers) = ("(".repeat(40), ")".repeat(40));
    for hidden in [
        format!("'{closers}' == '' || {deep}"),
        format!(r"r'\' == '' || {deep}"),
        format!(r"b'\'' == b'' || {deep}"),
        format!("'''){closers}'\n'''  == '' || {deep}"),
        format!("true // {closers}\n|| {deep}"),
    ] {
        let error = parse(&hidden).expect_err(&hidden);
        assert_eq!(error.problem(), "the expression nests too deep", "{hidden}");
    }
    let strings = format!("'{deep}' != \"{deep}\" && '''{deep}''' == r'{deep}' // {deep}");
    assert_eq!(holds(&strings, &json!({})), Ok(false));
}

#[test]
fn values_are_bounded() {
    let text = "observed.list.all(x, x == 1)";
    let list = |n: usize| json!({"observed": {"list": vec![1; n]}});
    assert_eq!(holds(text, &list(ENTRIES_MAX)), Ok(true));
    assert_eq!(
        holds(text, &list(ENTRIES_MAX + 1)),
        Err("`observed` has too many entries for an expression".to_owned())
    );
    let long = json!({"observed": {"list": ["x".repeat(VALUES_MAX_BYTES)]}});
    assert_eq!(
        holds(text, &long),
        Err("`observed` is too large for an expression".to_owned())
    );
    let beside = json!({"observed": {"list": [1]}, "release": "x".repeat(VALUES_MAX_BYTES)});
    assert_eq!(holds(text, &beside), Ok(true));
    let deep = (0..100).fold(json!(1), |value, _| json!([value]));
    assert_eq!(
        holds(text, &json!({"observed": deep})),
        Err("`observed` nests too deep for an expression".to_owned())
    );
}

#[test]
fn the_same_expression_is_equal_and_shows_its_text() {
    let one = parse("release.number > 3").expect("fine");
    assert_eq!(one, one.clone());
    assert_eq!(one, parse("release.number > 3").expect("fine"));
    assert_ne!(one, parse("release.number > 4").expect("fine"));
    assert_eq!(one.to_string(), "release.number > 3");
    assert_eq!(format!("{one:?}"), "Expression(\"release.number > 3\")");
}

#[test]
fn the_deepest_expression_leaves_a_small_stack_alone() {
    // Threads have 2 MiB, and who asks stands deep in them already.
    let shapes = [
        format!("{}release.ok{}", "[".repeat(24), "][0]".repeat(24)),
        format!("{}release.ok{}", "{1:".repeat(24), "}[1]".repeat(24)),
        format!("{}true{}", "[true].all(x, ".repeat(12), ")".repeat(12)),
        format!("{}1 == 1{}", "true ? (".repeat(12), ") : false".repeat(12)),
        format!("{}1{} == 1", "size([".repeat(12), "])".repeat(12)),
        format!("{}1{} == 1", "-(".repeat(24), ")".repeat(24)),
        format!("release{} == 1", ".a".repeat(90)),
        format!(
            "{}1{}{} == 1",
            "(".repeat(24),
            "+1".repeat(60),
            ")".repeat(24)
        ),
        format!("true{}", "&&true".repeat(160)),
        format!("{}true", "!".repeat(90)),
        "(".repeat(24),
        "[1,".repeat(24),
        "a?b:".repeat(24),
    ];
    let small = std::thread::Builder::new().stack_size(STACK_BYTES);
    let asked = small.spawn(move || {
        for shape in shapes {
            if let Ok(expression) = parse(&shape) {
                let _ = expression.holds(&json!({"release": {"ok": true}}));
            }
        }
    });
    asked.expect("a thread").join().expect("no panic");
}

#[test]
fn the_most_work_that_is_let_in_ends_soon() {
    let entry = json!({"name": "x".repeat(8), "ready": true, "ports": [1, 2, 3]});
    let wide = json!({"observed": {"list": vec![entry; 3000]}});
    let flat = json!({"observed": {"list": vec![7; ENTRIES_MAX], "more": vec![7; ENTRIES_MAX]}});
    let long = json!({"observed": {"list": ["x".repeat(180_000), "y".repeat(60_000)]}});
    let same = "x == x && ".repeat(60);
    let own = vec!["observed.list == observed.list"; 20].join(" && ");
    let joined = vec!["observed.list"; 40].join(" + ");
    let pattern = r"observed.list[0].matches(r'(\w|x){64}(x|y|z)*w$')";
    let mut refused = 0;
    for text in [
        format!("observed.list.all(x, {same} true)"),
        format!("[observed, observed, observed].all(x, {same} true)"),
        format!("{own} && true"),
        format!("size({joined}) > 0"),
        "observed.list.all(x, x in observed.list)".to_owned(),
        "observed.list.exists(x, !(x in observed.more) && size(observed.list) > 3)".to_owned(),
        "observed.list.all(x, observed.list + 1 == x)".to_owned(),
        "observed.list.all(x, observed < x)".to_owned(),
        "observed.list.exists(x, [observed, observed] == x)".to_owned(),
        "observed.list.exists(x, {'a': observed} == x)".to_owned(),
        "size(observed.list.filter(x, observed.list == observed.list)) > 1".to_owned(),
        "observed.list.all(x, -observed == x)".to_owned(),
        "observed.list.exists(x, x && observed)".to_owned(),
        "observed.list.exists(x, observed[x])".to_owned(),
        "observed.list.exists(x, observed ? x : x)".to_owned(),
        "observed.list.exists(x, x.startsWith(observed.list))".to_owned(),
        "observed.list.exists(x, x == observed.list)".to_owned(),
        "observed.list.exists(x, x == 3 || observed)".to_owned(),
        "observed.list.all(x, [observed, observed, observed][1] == x)".to_owned(),
        format!("{pattern} || {pattern} || {pattern} || {pattern}"),
    ] {
        let expression = parse(&text).expect(&text);
        for values in [&wide, &flat, &long] {
            let (_, size) = value::variables(values, &expression.0.cage.names).expect("fits");
            let allowed = expression.0.cage.work(values, &size) <= WORK_MAX_BYTES;
            let answer = expression.holds(values);
            let said = answer.err().unwrap_or_default();
            assert_eq!(
                said.starts_with("it could take too long"),
                !allowed,
                "{text}: {said}"
            );
            refused += usize::from(!allowed);
        }
    }
    assert!(refused > 5, "{refused}");
}

#[test]
fn a_question_about_each_of_a_thousand_targets_is_let_in() {
    let target =
        json!({"name": "shop-0001", "release": "web-12", "phase": "stable", "restarts": 0});
    let values = json!({
        "observed": {"targets": vec![target; 1000]},
        "release": {"name": "web-12", "number": 12, "notes": "x".repeat(10_000)},
        "environment": {"name": "production", "vars": {"restarts": 3}},
    });
    let text = "observed.targets.all(t, t.release == release.name && t.phase == 'stable' && \
                t.restarts <= environment.vars.restarts && t.name != environment.name) && \
                size(observed.targets.filter(t, t.release != release.name)) < 10 && \
                release.name.matches('^[a-z]+-[0-9]{1,4}$')";
    assert_eq!(holds(text, &values), Ok(true));
}

proptest! {
    #[test]
    fn whatever_is_written_is_answered_or_refused(text in "\\PC{0,120}") {
        let _ = parse(&text).map(|expression| expression.holds(&values()));
    }

    #[test]
    fn whatever_is_made_of_words_is_answered_or_refused(words in words()) {
        let text = words.concat();
        if let Ok(expression) = parse(&text) {
            let first = expression.holds(&values());
            prop_assert_eq!(first, expression.holds(&values()));
        }
    }

    #[test]
    fn a_valid_expression_with_a_mistake_is_answered_or_refused(
        of in 0..VALID.len(), at in 0..80_usize, drop in 0..3_usize, put in words(),
    ) {
        let valid: Vec<char> = VALID[of].chars().collect();
        let before: String = valid.iter().take(at).collect();
        let after: String = valid.iter().skip(at + drop).collect();
        let text = format!("{before}{}{after}", put.first().copied().unwrap_or_default());
        let _ = parse(&text).map(|expression| expression.holds(&values()));
    }
}

fn words() -> impl Strategy<Value = Vec<&'static str>> {
    let word = proptest::sample::select(&WORDS[..]);
    proptest::collection::vec(word, 0..60)
}

const VALID: [&str; 4] = [
    "observed.targets.all(t, t.ready && t.restarts <= 3) || has(release.commit)",
    "size(observed.targets.filter(t, t.restarts > 0)) == 1 ? true : release.number in [1, 2]",
    "workload.image.matches('^registry[.]internal/') && {'a': 1}['a'] == 1 // why",
    r#"'''a''' == r"a\" || b'a' != b"\x41" || "\u00e4" == 'ä'"#,
];

const WORDS: [&str; 60] = [
    "release",
    "observed",
    "service",
    ".",
    ".number",
    ".targets",
    ".labels",
    "(",
    ")",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "0",
    "1",
    "1.5",
    "2u",
    "0x1f",
    "'a'",
    "\"b\"",
    "r'",
    "'''",
    "\\",
    "'",
    "==",
    "!=",
    "<",
    ">=",
    "&&",
    "||",
    "!",
    "?",
    ":",
    ",",
    "+",
    "-",
    "*",
    "/",
    "%",
    " in ",
    " ",
    "\n",
    "//",
    ".all(",
    "x, ",
    "x",
    ".exists(",
    ".filter(",
    ".map(",
    ".size()",
    "size(",
    "has(",
    ".matches('a')",
    "true",
    "null",
    "@",
    "`",
    "\u{0}",
];
/// The stack that is left to an expression, at most.
const STACK_BYTES: usize = 512 * 1024;
