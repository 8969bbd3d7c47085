//! Columns of text, as wide as they need to be and no wider than a screen.

use comfy_table::{CellAlignment, Color, ContentArrangement, Table as Grid, presets};

use super::clean;
use super::row::{Cell, Keep, Row, Tone};
use crate::clock;

/// Rows under a header.
#[derive(Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// The table of some objects; `wide` adds the columns that few people need.
    #[must_use]
    pub fn of<T: Row>(objects: &[T], wide: bool) -> Self {
        let now = clock::now();
        let mut header = T::HEADER.to_vec();
        if wide {
            header.extend(T::WIDE);
        }
        let rows = objects
            .iter()
            .map(|object| {
                let mut cells = object.cells(now);
                if wide {
                    cells.extend(object.wide(now));
                }
                cells
            })
            .collect();
        Self { header, rows }
    }

    /// A table of given cells.
    #[must_use]
    pub const fn new(header: Vec<&'static str>, rows: Vec<Vec<Cell>>) -> Self {
        Self { header, rows }
    }

    /// The table as text. Within `width` characters the long cells are cut, the longest column
    /// first, and end in `…`.
    #[must_use]
    pub fn text(&self, width: Option<usize>, colour: bool) -> String {
        self.render(width, colour, true)
    }

    /// The rows alone, for a list that goes on.
    #[must_use]
    pub fn lines_without_header(&self, width: Option<usize>, colour: bool) -> String {
        self.render(width, colour, false)
    }

    fn render(&self, width: Option<usize>, colour: bool, header: bool) -> String {
        let limits = self.limits(width);
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        if colour {
            grid.enforce_styling();
        } else {
            grid.force_no_tty();
        }
        if header {
            grid.set_header(self.header.iter().map(comfy_table::Cell::new));
        }
        for row in &self.rows {
            grid.add_row(
                row.iter()
                    .zip(&limits)
                    .map(|(cell, limit)| painted(cell, *limit, colour)),
            );
        }
        for column in grid.column_iter_mut() {
            column.set_padding((0, 2));
            column.set_cell_alignment(CellAlignment::Left);
        }
        let mut text = grid
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
            .join("\n");
        text.push('\n');
        text
    }

    /// How many characters each column may have, so that all fit `width`.
    fn limits(&self, width: Option<usize>) -> Vec<usize> {
        let mut limits: Vec<usize> = (0..self.header.len())
            .map(|column| self.natural(column))
            .collect();
        let Some(width) = width else {
            return limits;
        };
        let whole: Vec<bool> = (0..limits.len())
            .map(|column| self.is_whole(column))
            .collect();
        let gaps = 2 * limits.len().saturating_sub(1);
        while limits.iter().sum::<usize>() + gaps > width {
            let cuttable = limits.iter_mut().zip(&whole).filter(|(_, whole)| !**whole);
            let Some(longest) = cuttable.map(|(limit, _)| limit).max() else {
                break;
            };
            if *longest <= COLUMN_MIN_CHARS {
                break;
            }
            *longest -= 1;
        }
        limits
    }

    fn is_whole(&self, column: usize) -> bool {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.into_iter().any(|cell| cell.keep == Keep::Whole)
    }

    fn natural(&self, column: usize) -> usize {
        let header = self
            .header
            .get(column)
            .map_or(0, |title| title.chars().count());
        self.rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| one_line(&cell.text).chars().count())
            .chain([header])
            .max()
            .unwrap_or(0)
    }
}

fn painted(cell: &Cell, limit: usize, colour: bool) -> comfy_table::Cell {
    let painted = comfy_table::Cell::new(cut(&one_line(&cell.text), limit, cell.keep));
    if !colour {
        return painted;
    }
    match cell.tone {
        Tone::Plain => painted,
        Tone::Good => painted.fg(Color::Green),
        Tone::Busy => painted.fg(Color::Yellow),
        Tone::Bad => painted.fg(Color::Red),
    }
}

/// A row is one line, whatever its texts hold.
fn one_line(text: &str) -> String {
    clean(text).replace('\n', " ")
}

fn cut(text: &str, limit: usize, keep: Keep) -> String {
    let length = text.chars().count();
    if length <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(1);
    match keep {
        Keep::Whole => text.to_owned(),
        Keep::Beginning => text.chars().take(room).chain(['…']).collect(),
        Keep::End => ['…']
            .into_iter()
            .chain(text.chars().skip(length - room))
            .collect(),
    }
}

/// No column is cut to less, in characters, even if the table is too wide then.
const COLUMN_MIN_CHARS: usize = 6;
