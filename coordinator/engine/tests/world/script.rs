//! Scripts: each line is something that happens, and indented below it stands what was decided.

use std::fmt::Write as _;

use super::event::Event;
use super::model::World;

/// What stands before a decision.
pub(crate) const DECISION: &str = "    ";

/// Plays a script and gives it back with what was decided. Decisions that stand in it already are
/// left out. It ends where something objects.
pub(crate) fn played(world: &mut World, script: &str) -> String {
    let mut text = String::new();
    for line in script.lines().filter(|line| !line.starts_with(DECISION)) {
        text.push_str(line);
        text.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let event: Event = line.parse().expect("a line of the script");
        world.said.clear();
        world.happen(&event);
        for decision in &world.said {
            writeln!(text, "{DECISION}{decision}").expect("a string takes everything");
        }
        if let Some(objection) = &world.objection {
            writeln!(text, "# objection: {objection}").expect("a string takes everything");
            break;
        }
    }
    text
}
