//! What commands print: lines and aligned tables, to standard output. A reader that has gone away, as `head`, is an error
//! of the write, not a panic.

use std::{
    fmt::Display,
    io::{self, Write},
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
pub(crate) use rookery_node::words::{bytes, span};

/// Prints a line.
pub(crate) fn line(text: &dyn Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints text that has its own ends of lines.
pub(crate) fn text(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()
}

/// Prints rows under their headings; columns whose number is in `right` are aligned to the right.
pub(crate) fn table(headings: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> io::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        if right.contains(&column.index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for text in table.lines() {
        line(&text.trim_end())?;
    }
    Ok(())
}
