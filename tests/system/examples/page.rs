//! A page of an example: numbered steps, `**1. What it is about.** …`, each with blocks of commands.

use std::fs;
use std::path::Path;

/// The steps of a page.
pub(super) struct Page {
    steps: Vec<Step>,
}

/// What is to be typed in one step.
#[derive(Clone)]
pub(super) struct Step {
    number: usize,
    /// Each block of kind `sh`, whole.
    pub(super) blocks: Vec<String>,
}

impl Page {
    /// Reads a page; its steps are numbered from one, in order.
    pub(super) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut steps: Vec<Step> = Vec::new();
        let mut block: Option<String> = None;
        for line in text.lines() {
            match (&mut block, line) {
                (Some(open), "```") => {
                    let step = steps.last_mut().expect("a block belongs to a step");
                    step.blocks.push(std::mem::take(open));
                    block = None;
                }
                (Some(open), line) => *open += &format!("{line}\n"),
                (None, "```sh") => block = Some(String::new()),
                (None, line) => steps.extend(begun(line)),
            }
        }
        let numbers = steps.iter().map(|step| step.number);
        assert!(numbers.eq(1..=steps.len()), "{}", path.display());
        Self { steps }
    }

    /// One step.
    pub(super) fn step(&self, number: usize) -> &Step {
        let found = self.steps.iter().find(|step| step.number == number);
        found.unwrap_or_else(|| panic!("the page has no step {number}"))
    }

    /// The numbers of all steps in which something is typed.
    pub(super) fn numbers(&self) -> Vec<usize> {
        let typed = self.steps.iter().filter(|step| !step.blocks.is_empty());
        typed.map(|step| step.number).collect()
    }
}

/// The step that a line begins.
fn begun(line: &str) -> Option<Step> {
    let (number, _) = line.strip_prefix("**")?.split_once(". ")?;
    let number = number.parse().ok()?;
    let blocks = Vec::new();
    Some(Step { number, blocks })
}
