//! Draws the model: the nodes, the table, what is asked, the keys. What does not fit a narrow terminal is left out, the
//! least needed first.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Row as TableRow, Table},
};
use rookery_node::system::{NodeInfo, ProcessState};

use super::{
    super::{out, ps},
    model::{Busy, Mode, Model},
    rows::{Column, Row},
};

/// How much of the screen the nodes may take.
const NODES_SHARE: u16 = 3;

const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().fg(Color::DarkGray);
const GOOD: Style = Style::new().fg(Color::Green);
const WARNING: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red);

/// The keys of the table, as htop has them.
const KEYS: [(&str, &str); 9] = [
    ("F1", "Help"),
    ("F3", "Search"),
    ("F4", "Filter"),
    ("F5", "Tree"),
    ("F6", "Sort"),
    ("F9", "Kill"),
    ("F10", "Quit"),
    ("Space", "Pause"),
    ("Enter", "Inspect"),
];

const HELP: [&str; 13] = [
    "Up Down PgUp PgDn Home End   move",
    "Enter                        everything about the process",
    "F3 /                         search; F3 or Down again: the next",
    "F4 \\                         list only what has a text; Esc: as before",
    "F5 t                         who has started whom, or a list",
    "F6 > <                       sort; the same column again: reversed",
    "I                            sort the other way round",
    "F9 k                         end the process, after a question",
    "Space                        pause, go on",
    "F1 h ?                       this",
    "F10 q Ctrl-C                 quit",
    "",
    "Each node lists its first by the column; F4 finds the others.",
];

pub(crate) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let area = frame.area();
    let nodes = node_lines(model, area.width, (area.height / NODES_SHARE).max(2));
    let heights = [Constraint::Length(rows_of(nodes.len())), Constraint::Min(1), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(heights).areas(area);
    frame.render_widget(Paragraph::new(nodes), head);
    model.set_page(usize::from(body.height.saturating_sub(1)));
    match &model.mode {
        Mode::Details { lines, from, .. } => {
            let lines: Vec<Line<'_>> = lines.iter().skip(*from).map(|line| Line::raw(line.as_str())).collect();
            frame.render_widget(Paragraph::new(lines), body);
        }
        _ => table(frame, model, body),
    }
    match &model.mode {
        Mode::Help => popup(frame, "help: any key", &HELP.map(Line::raw)),
        Mode::Sort(at) => {
            let line = |(number, column): (usize, &Column)| {
                Line::styled(column.heading(), if number == *at { REVERSED } else { Style::new() })
            };
            popup(frame, "sort by: Enter", &Column::ALL.iter().enumerate().map(line).collect::<Vec<_>>());
        }
        _ => {}
    }
    frame.render_widget(Paragraph::new(bottom(model)), foot);
}

fn rows_of(lines: usize) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX)
}

/// A line of the whole, and one for each node as far as there is room.
fn node_lines(model: &Model, width: u16, room: u16) -> Vec<Line<'static>> {
    let Some(snapshot) = &model.snapshot else {
        return vec![Line::styled("rookery top: waiting for the nodes", BOLD)];
    };
    let processes: u64 = snapshot.nodes.iter().map(|node| node.processes).sum();
    let mut first = vec![
        Span::styled("rookery top", BOLD),
        Span::raw(format!("  {} nodes  {processes} processes", snapshot.nodes.len())),
    ];
    if !model.filter().is_empty() {
        first.push(Span::styled(format!("  {} with `{}`", snapshot.matching, model.filter()), WARNING));
    }
    let unlisted = snapshot.matching.saturating_sub(snapshot.processes.len() as u64);
    if unlisted > 0 {
        first.push(Span::styled(format!("  {unlisted} not listed"), FAINT));
    }
    if model.paused {
        first.push(Span::styled("  PAUSED", WARNING));
    }
    if let Some(why) = &model.lost {
        first.push(Span::styled(format!("  NOTHING NEW: {why}"), BAD));
    }
    let mut lines = vec![Line::from(first)];
    lines.extend(snapshot.silent.iter().map(|why| Line::styled(format!("did not answer: {why}"), BAD)));
    let here = snapshot.nodes.iter().find(|node| node.node.name().as_str() == snapshot.here);
    let name_width = snapshot.nodes.iter().map(|node| node.node.name().as_str().len()).max().unwrap_or(0);
    for (node, busy) in snapshot.nodes.iter().zip(&model.busy) {
        lines.push(node_line(node, *busy, here, name_width, width));
    }
    let room = usize::from(room);
    if lines.len() > room {
        let left_out = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(Line::styled(format!("… {left_out} more lines; a higher terminal shows them"), FAINT));
    }
    lines
}

fn node_line(
    node: &NodeInfo,
    busy: Option<Busy>,
    here: Option<&NodeInfo>,
    name_width: usize,
    width: u16,
) -> Line<'static> {
    let link = here.and_then(|here| here.peers.iter().find(|peer| peer.node == node.node));
    let rtt = link.map_or_else(|| "-".to_owned(), |peer| out::span(Duration::from_micros(peer.rtt_us)));
    let mut spans = vec![Span::raw(format!("{:<name_width$} ", node.node.name())), Span::raw("[")];
    let cells = if width >= 100 { 20 } else { 8 };
    let share = busy.map_or(0.0, |busy| busy.workers);
    // Between none and all of the cells.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let full = (share * f64::from(cells)).round() as usize;
    let style = if share > 0.9 {
        BAD
    } else if share > 0.7 {
        WARNING
    } else {
        GOOD
    };
    spans.push(Span::styled(format!("{:<1$}", "|".repeat(full), cells as usize), style));
    spans.push(Span::raw(format!("{:>4.0}%] {:>8} proc", share * 100.0, node.processes)));
    let cpus = busy.map_or_else(|| "-".to_owned(), |busy| format!("{:.2}", busy.cpus));
    let memory = node.load.memory_bytes.map_or_else(|| "-".to_owned(), out::bytes);
    // What a narrow terminal has no room for comes last.
    let lost = link.map_or(0, |peer| peer.lost_packets);
    let queued: u64 = node.peers.iter().map(|peer| peer.queued_bytes).sum();
    for more in [
        format!("  mem {memory:>9}"),
        format!("  cpu {cpus:>5}"),
        format!("  rtt {rtt:>8}"),
        format!("  clients {}", node.clients),
        format!("  queued {}", out::bytes(queued)),
        format!("  dead letters {}", node.dead_letters),
        format!("  lost packets {lost}"),
        format!("  up {}", out::span(Duration::from_millis(node.uptime_ms))),
    ] {
        let taken: usize = spans.iter().map(Span::width).sum();
        if taken + more.chars().count() <= usize::from(width) {
            spans.push(Span::raw(more));
        }
    }
    if node.draining {
        spans.push(Span::styled("  leaves", WARNING));
    }
    Line::from(spans)
}

/// Columns with their widths, in the order of their need. Pids are as wide as they are.
const NEED: [(Column, u16); 9] = [
    (Column::Pid, 0),
    (Column::Mailbox, 8),
    (Column::Name, 16),
    (Column::Rate, 8),
    (Column::State, 14),
    (Column::Behaviour, 17),
    (Column::Handled, 9),
    (Column::Memory, 9),
    (Column::Age, 8),
];

/// The columns that fit, in their order, with their widths; what is left over goes to names and behaviours.
fn columns(width: u16, longest_pid: u16) -> Vec<(Column, u16)> {
    let mut left = width;
    let mut fit = Vec::new();
    for (column, wanted) in NEED {
        let wanted = if column == Column::Pid { longest_pid.clamp(10, 40) } else { wanted };
        // The first is there in any case, cut if need be.
        if fit.is_empty() || left >= wanted {
            left = left.saturating_sub(wanted + 1);
            fit.push((column, wanted));
        }
    }
    let wide = fit.iter().filter(|(column, _)| matches!(column, Column::Name | Column::Behaviour)).count();
    let more = left / rows_of(wide).max(1);
    for (column, width) in &mut fit {
        if matches!(column, Column::Name | Column::Behaviour) {
            *width += more;
        }
    }
    fit.sort_by_key(|(column, _)| Column::ALL.iter().position(|other| other == column));
    fit
}

fn table(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let shown = model.rows.iter().skip(model.top).take(model.page);
    let longest = shown.clone().map(|row| pid_cell(row).chars().count()).max().unwrap_or(0);
    let columns = columns(area.width, rows_of(longest));
    let heading = columns.iter().map(|(column, width)| {
        let mark = match (*column == model.sort, column.is_figure() != model.reverse) {
            (false, _) => "",
            (true, true) => "↓",
            (true, false) => "↑",
        };
        aligned(format!("{}{mark}", column.heading()), *column, *width)
    });
    let heading = TableRow::new(heading.collect::<Vec<_>>()).style(REVERSED);
    let rows = shown.enumerate().map(|(number, row)| {
        let selected = model.top + number == model.at;
        let cells = columns.iter().map(|(column, width)| {
            let cell = aligned(cell(row, *column), *column, *width);
            if selected { cell } else { cell.style(style(row, *column)) }
        });
        TableRow::new(cells.collect::<Vec<_>>()).style(if selected { REVERSED } else { Style::new() })
    });
    let widths: Vec<Constraint> = columns.iter().map(|(_, width)| Constraint::Length(*width)).collect();
    frame.render_widget(Table::new(rows.collect::<Vec<_>>(), widths).header(heading).column_spacing(1), area);
}

fn aligned(text: String, column: Column, width: u16) -> Line<'static> {
    let width = usize::from(width);
    let text = match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text,
    };
    Line::raw(text).alignment(if column.is_figure() { Alignment::Right } else { Alignment::Left })
}

fn pid_cell(row: &Row) -> String {
    format!("{}{}", "  ".repeat(row.depth.min(10)), row.info.pid)
}

fn cell(row: &Row, column: Column) -> String {
    let info = &row.info;
    match column {
        Column::Pid => pid_cell(row),
        Column::Name => ps::names(info),
        Column::Behaviour => ps::short(&info.behaviour).to_owned(),
        Column::State => ps::state(info),
        Column::Mailbox => info.mailbox.to_string(),
        Column::Rate => format!("{:.1}", row.rate),
        Column::Handled => info.handled.to_string(),
        Column::Memory => out::bytes(info.memory_bytes),
        Column::Age => out::span(Duration::from_millis(info.age_ms)),
    }
}

fn style(row: &Row, column: Column) -> Style {
    match column {
        Column::State => match row.info.state {
            ProcessState::Running => GOOD,
            ProcessState::Suspended => WARNING,
            ProcessState::Stopping => BAD,
            ProcessState::Waiting => FAINT,
        },
        Column::Mailbox if row.info.mailbox >= 1_000 => BAD,
        Column::Mailbox if row.info.mailbox > 0 => WARNING,
        _ => Style::new(),
    }
}

fn popup(frame: &mut Frame<'_>, title: &'static str, lines: &[Line<'_>]) {
    let area = frame.area();
    let width = lines.iter().map(Line::width).max().unwrap_or(0).max(title.len()) + 4;
    let width = rows_of(width).min(area.width);
    let height = rows_of(lines.len() + 2).min(area.height);
    let middle = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, middle);
    frame.render_widget(Paragraph::new(lines.to_vec()).block(Block::bordered().title(title)), middle);
}

/// What is asked or said; otherwise the keys.
fn bottom(model: &Model) -> Line<'static> {
    match (&model.mode, &model.said) {
        (Mode::Search(text), None) => Line::from(format!("Search: {text}_   F3 next  Enter done")),
        (Mode::Search(text), Some(said)) => Line::styled(format!("Search: {text}_   {said}"), WARNING),
        (Mode::Filter { text, .. }, _) => Line::from(format!("Filter: {text}_   Enter keep  Esc as before")),
        (Mode::Kill { pid, what }, _) => {
            Line::styled(format!("End {pid} {what}? y ends it, any other key does not"), BAD)
        }
        (Mode::Details { pid, .. }, _) => Line::styled(format!("{pid}   any other key: back"), REVERSED),
        (_, Some(said)) => Line::styled(said.clone(), WARNING),
        _ => Line::from(
            KEYS.iter()
                .flat_map(|(key, what)| [Span::styled(*key, BOLD), Span::styled(*what, REVERSED), Span::raw(" ")])
                .collect::<Vec<_>>(),
        ),
    }
}
