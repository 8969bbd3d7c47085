//! What others wrote, as it may be shown on a terminal.

/// `text` without anything that commands a terminal, or turns the direction of what is read; what
/// others wrote is shown through this. Line feeds and tabs stay.
#[must_use]
pub fn clean(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| {
        if c.is_control() && c != '\n' && c != '\t' || turns(c) {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_commands_a_terminal_is_left() {
        let said = "\u{1b}]52;c;cm0gLXJm\u{7}\u{9b}2J\r\u{202e}\tx\n";
        let shown = clean(said);
        assert_eq!(
            shown,
            "\u{fffd}]52;c;cm0gLXJm\u{fffd}\u{fffd}2J\u{fffd}\u{fffd}\tx\n"
        );
    }
}
