//! What went wrong, for a person and for a program, and with which exit code the program ends.

use std::fmt::Write as _;

use holdfast_protocol::api::{Code, Diagnostic, Problem};
use serde::Serialize;

use crate::output::clean;
use crate::output::text::filled;

/// How the program ends. The numbers are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or already so.
    Done = 0,
    /// The operation failed.
    Failed = 1,
    /// There are changes (`plan --detailed-exitcode` only).
    Changes = 2,
    /// It does not exist.
    NotFound = 3,
    /// Not allowed, or not authenticated.
    NotAllowed = 4,
    /// The coordinator does not answer.
    Unreachable = 5,
    /// Timed out waiting.
    TimedOut = 6,
    /// The awaited deployment failed or was rolled back.
    DeploymentFailed = 7,
    /// It contradicts what is there, or the plan is stale.
    Conflict = 8,
    /// Wrong usage.
    Usage = 64,
    /// Invalid manifest.
    InvalidManifest = 65,
    /// Interrupted by a person.
    Interrupted = 130,
}

impl Exit {
    /// The word for programs, where the coordinator gave none.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Changes => "changes",
            Self::NotFound => "notFound",
            Self::NotAllowed => "forbidden",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timedOut",
            Self::DeploymentFailed => "deploymentFailed",
            Self::Conflict => "conflict",
            Self::Usage => "usage",
            Self::InvalidManifest => "invalidManifest",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// The word for programs.
    pub code: String,
    /// What went wrong, in one sentence.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Everything wrong with manifests, where that is the problem.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether the same request may succeed a moment later, with nothing changed.
    pub passing: bool,
}

impl Failure {
    /// A failure that ends the program with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: exit.word().to_owned(),
            message: message.into(),
            help: None,
            diagnostics: Vec::new(),
            passing: false,
        }
    }

    /// The operation failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// It does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// A person pressed Ctrl-C.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// The manifests are wrong in these places.
    #[must_use]
    pub fn manifests(diagnostics: Vec<Diagnostic>) -> Self {
        let count = diagnostics.len();
        let message = match count {
            1 => "1 problem in the manifests; nothing was changed".to_owned(),
            _ => format!("{count} problems in the manifests; nothing was changed"),
        };
        Self {
            diagnostics,
            ..Self::new(Exit::InvalidManifest, message)
        }
    }

    /// The same failure, with what to do about it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// The same failure, which may pass by itself.
    #[must_use]
    pub fn passing(self) -> Self {
        Self {
            passing: true,
            ..self
        }
    }

    /// The failure for a person, ending in a line break.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "error: {}\n",
            filled(&clean(&self.message), "error: ".len(), 2)
        );
        for diagnostic in &self.diagnostics {
            text.push('\n');
            text.push_str(&place(diagnostic));
        }
        if let Some(help) = &self.help {
            if !self.diagnostics.is_empty() {
                text.push('\n');
            }
            let _ = writeln!(
                text,
                "  help: {}",
                filled(&clean(help), HELP.len(), HELP.len())
            );
        }
        text
    }

    /// The failure for a program: one JSON object and a line break.
    #[must_use]
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Outer<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            help: Option<&'a str>,
            details: &'a [Diagnostic],
        }
        let outer = Outer {
            error: Inner {
                code: &self.code,
                message: &self.message,
                help: self.help.as_deref(),
                details: &self.diagnostics,
            },
        };
        let text = serde_json::to_string(&outer).expect("texts and numbers become JSON");
        format!("{text}\n")
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let code = serde_json::to_value(problem.code)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned));
        let exit = exit_of(problem.code);
        Self {
            exit,
            code: code.unwrap_or_else(|| exit.word().to_owned()),
            message: problem.detail,
            help: problem.help,
            diagnostics: problem.diagnostics,
            passing: problem.code == Code::Unavailable,
        }
    }
}

/// Writing the result failed: the reader has gone, which ends the program in silence, or the disk is
/// full.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Done, "the reader of standard output has gone");
        }
        Self::failed(format!("cannot write the result: {error}"))
    }
}

const fn exit_of(code: Code) -> Exit {
    match code {
        Code::NotFound => Exit::NotFound,
        Code::Unauthenticated | Code::Forbidden => Exit::NotAllowed,
        Code::Conflict | Code::Refused => Exit::Conflict,
        Code::InvalidManifest => Exit::InvalidManifest,
        Code::Unavailable => Exit::Unreachable,
        Code::BadRequest | Code::TooLarge | Code::Disconnected | Code::Internal => Exit::Failed,
    }
}

/// One diagnostic: place, message, the source line with the place underlined, help.
fn place(diagnostic: &Diagnostic) -> String {
    let Diagnostic {
        file,
        line,
        column,
        message,
        ..
    } = diagnostic;
    let mut text = format!("{}:{line}:{column}: {}\n", clean(file), clean(message));
    if !diagnostic.source.is_empty() {
        let (shown, before) = excerpt(&diagnostic.source, column.saturating_sub(1) as usize);
        let length = (diagnostic.length.max(1) as usize)
            .min(shown.chars().count().saturating_sub(before))
            .max(1);
        let number = line.to_string();
        let gap = " ".repeat(number.len());
        let _ = writeln!(text, "  {number} | {shown}");
        let _ = writeln!(
            text,
            "  {gap} | {}{}",
            " ".repeat(before),
            "^".repeat(length)
        );
    }
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(
            text,
            "  help: {}",
            filled(&clean(help), HELP.len(), HELP.len())
        );
    }
    text
}

/// The part of a source line that is worth showing round a place, and how many characters of it come
/// before the place.
fn excerpt(source: &str, column: usize) -> (String, usize) {
    let characters: Vec<char> = source.chars().map(visible).collect();
    if characters.len() <= EXCERPT_MAX_CHARS {
        return (characters.into_iter().collect(), column);
    }
    let start = column
        .saturating_sub(EXCERPT_MAX_CHARS / 2)
        .min(characters.len() - EXCERPT_MAX_CHARS);
    let shown = characters
        .iter()
        .skip(start)
        .take(EXCERPT_MAX_CHARS)
        .collect();
    (shown, column.saturating_sub(start))
}

/// A character that takes one column and commands no terminal.
fn visible(character: char) -> char {
    if character == '\t' {
        ' '
    } else if character.is_control() {
        '\u{fffd}'
    } else {
        character
    }
}

/// How help begins; its other lines stand below its first word.
const HELP: &str = "  help: ";
/// Longest part of a source line that is shown, in characters.
const EXCERPT_MAX_CHARS: usize = 90;

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn problem(code: Code) -> Problem {
        Problem {
            kind: "about:blank".to_owned(),
            title: "t".to_owned(),
            status: 400,
            detail: "it is so".to_owned(),
            code,
            help: Some("do this".to_owned()),
            diagnostics: Vec::new(),
        }
    }

    #[test]
    fn each_problem_has_the_exit_code_of_the_contract() {
        for (code, exit) in [
            (Code::BadRequest, 1),
            (Code::InvalidManifest, 65),
            (Code::Unauthenticated, 4),
            (Code::Forbidden, 4),
            (Code::NotFound, 3),
            (Code::Conflict, 8),
            (Code::Refused, 8),
            (Code::TooLarge, 1),
            (Code::Disconnected, 1),
            (Code::Unavailable, 5),
            (Code::Internal, 1),
        ] {
            assert_eq!(Failure::from(problem(code)).exit as u8, exit, "{code:?}");
        }
    }

    #[test]
    fn a_problem_is_told_with_its_help_and_as_json_with_its_code() {
        let failure = Failure::from(problem(Code::NotFound));
        expect![[r#"
            error: it is so
              help: do this
        "#]]
        .assert_eq(&failure.text());
        expect![[r#"
            {"error":{"code":"notFound","message":"it is so","help":"do this","details":[]}}
        "#]]
        .assert_eq(&failure.json());
    }

    #[test]
    fn long_lines_are_filled_and_a_path_stays_whole() {
        let path = format!("/{}", "folder/".repeat(20));
        let failure = Failure::failed("so it is ".repeat(20) + &path).help("do this ".repeat(20));
        let text = failure.text();
        let wide: Vec<&str> = text
            .lines()
            .filter(|line| line.chars().count() > 100)
            .collect();
        assert_eq!(wide, [format!("  {path}")], "{text}");
        assert!(text.contains("\n        this do"), "{text}");
    }

    fn diagnostic(source: &str, column: u32, length: u32) -> Diagnostic {
        Diagnostic {
            file: "deploy/web.yaml".to_owned(),
            line: 12,
            column,
            length,
            message: "unknown field `replicsa`".to_owned(),
            help: Some("did you mean `replicas`?".to_owned()),
            source: source.to_owned(),
        }
    }

    #[test]
    fn a_diagnostic_shows_the_line_with_the_place_underlined() {
        let failure = Failure::manifests(vec![diagnostic("  replicsa: 3", 3, 8)]);
        expect![[r#"
            error: 1 problem in the manifests; nothing was changed

            deploy/web.yaml:12:3: unknown field `replicsa`
              12 |   replicsa: 3
                 |   ^^^^^^^^
              help: did you mean `replicas`?
        "#]]
        .assert_eq(&failure.text());
    }

    #[test]
    fn a_tab_takes_one_column_and_an_escape_sequence_reaches_no_terminal() {
        let text = place(&diagnostic("\tx: \u{1b}[31mred", 2, 1));
        assert!(text.contains("  12 |  x: \u{fffd}[31mred\n"), "{text}");
        assert!(text.contains("     |  ^\n"), "{text}");
    }

    #[test]
    fn of_a_very_long_line_only_the_part_round_the_place_is_shown() {
        let source = format!("{}HERE{}", "a".repeat(5_000), "b".repeat(5_000));
        let text = place(&diagnostic(&source, 5_001, 4));
        assert!(
            text.lines().all(|line| line.chars().count() < 100),
            "{text}"
        );
        let lines: Vec<&str> = text.lines().collect();
        let marks = lines[2].find("^^^^").unwrap();
        assert_eq!(&lines[1][marks..marks + 4], "HERE");
    }

    #[test]
    fn an_underline_never_runs_past_the_line() {
        let text = place(&diagnostic("ab", 2, 500));
        assert!(text.contains("     |  ^\n"), "{text}");
    }
}
