//! Where the daemon's log lines go and how they look.
//!
//! All lines go to standard error. Text is one short line for people (`13:02:07.123 INFO  mesh: node up node=orders-1`),
//! where a value is quoted if it has spaces in it, or is empty, or could be mistaken for one that is quoted. JSON is one object a line for collectors, with an RFC 3339 time in UTC. Which of the two, which lines and whether
//! in colour comes from `LogSettings`, already checked. Called once, by the binary; the library only emits events.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::{Event, Level, Subscriber, field::Field};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer, debug_fn};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::settings::{LogColor, LogFormat, LogSettings, Surroundings};

/// Set by Kubernetes in every pod.
const POD_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";
/// Set by people who want no colour in any program (no-color.org).
const NO_COLOR_VARIABLE: &str = "NO_COLOR";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The filter does not parse; the settings check it, so this is a mistake of ours.
    #[error("log: `{filter}` is no filter ({reason}); give a level such as info")]
    Filter {
        /// The filter.
        filter: String,
        /// What the parser says.
        reason: String,
    },
    /// Somebody set a subscriber for this process before.
    #[error("log: this process logs already; set logging up once, before the node starts")]
    AlreadySet,
}

/// Sends this process's events to standard error from now on.
///
/// # Errors
/// If the filter is none, or logging was set up before.
pub(crate) fn init(settings: &LogSettings, surroundings: &Surroundings) -> Result<(), LogError> {
    let look = Look::decide(settings, surroundings, io::stderr().is_terminal());
    let subscriber = subscriber(&settings.filter, look, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadySet)
}

/// How lines look, once nothing is `auto` any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Text { color: bool },
    Json,
}

impl Look {
    fn decide(settings: &LogSettings, surroundings: &Surroundings, terminal: bool) -> Self {
        let in_pod = surroundings.variable(POD_VARIABLE).is_some();
        match settings.format {
            LogFormat::Json => Self::Json,
            // Whoever runs it by hand reads it; in a pod nobody but a collector does, unless a terminal is attached.
            LogFormat::Auto if in_pod && !terminal => Self::Json,
            LogFormat::Auto | LogFormat::Text => Self::Text {
                color: match settings.color {
                    LogColor::Always => true,
                    LogColor::Never => false,
                    LogColor::Auto => terminal && surroundings.variable(NO_COLOR_VARIABLE).is_none(),
                },
            },
        }
    }
}

fn subscriber<W>(filter: &str, look: Look, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A line that cannot be written, as on a full disk, is lost. It would be told on standard error otherwise, which cannot
    // be written either, and whoever tells of it would panic.
    let builder = builder.log_internal_errors(false);
    Ok(match look {
        Look::Json => {
            Box::new(builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish())
        }
        Look::Text { color } => Box::new(
            builder.with_ansi(color).event_format(ShortLine).fmt_fields(debug_fn(field).delimited(" ")).finish(),
        ),
    })
}

/// `name=value`, or the message. By one rule, whether the value is a text or prints itself as one.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() == "message" {
        return write!(writer, "{value:?}");
    }
    let (dim, plain) = if writer.has_ansi_escapes() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    write!(writer, "{dim}{}={plain}", field.name())?;
    let shown = format!("{value:?}");
    let is_plain =
        |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
    match shown.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        // A text, which prints itself in quotes, with escapes.
        Some(inner) if is_plain(inner) && !inner.contains('\\') => writer.write_str(inner),
        Some(_) => writer.write_str(&shown),
        None if is_plain(&shown) => writer.write_str(&shown),
        None => write!(writer, "{shown:?}"),
    }
}

/// `13:02:07.123 INFO  mesh: message field=value`: a line that fits a terminal.
struct ShortLine;

impl<S, N> FormatEvent<S, N> for ShortLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let (dim, bold, plain) =
            if writer.has_ansi_escapes() { ("\x1b[2m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        let color = if writer.has_ansi_escapes() { color_of(*metadata.level()) } else { "" };
        let time = ClockTime::of(SystemTime::now());
        write!(writer, "{dim}{time}{plain} {color}{:<5}{plain} ", metadata.level().as_str())?;
        write!(writer, "{bold}{}{plain}", short_target(metadata.target()))?;
        for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            write!(writer, "{dim}/{}{plain}", span.name())?;
        }
        writer.write_str(": ")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// `rookery_node::mesh::dialler` is `mesh`: the crate is clear from where the line is, and the file is ours to move.
fn short_target(target: &str) -> &str {
    match target.split_once("::") {
        Some((root, rest)) if root.starts_with("rookery") => rest.split("::").next().unwrap_or(rest),
        _ => target,
    }
}

fn color_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// Time of day in UTC to the millisecond; the day is in whatever stores the lines.
struct ClockTime(Duration);

impl ClockTime {
    fn of(now: SystemTime) -> Self {
        Self(now.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs() % 86_400;
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{hour:02}:{minute:02}:{second:02}.{:03}", self.0.subsec_millis())
    }
}

/// Writes one line to standard error outside the log: what must be seen before logging is set up.
pub(crate) fn complain(text: &dyn fmt::Display) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Sink {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(filter: &str, look: Look) -> String {
        let sink = Sink::default();
        let subscriber = subscriber(filter, look, sink.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "rookery_node::mesh", peer = "orders-1", attempt = 3, "up");
            tracing::debug!(target: "rookery_node::mesh", "dialling");
            tracing::debug!(target: "quinn", "noise");
        });
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    fn look(format: LogFormat, color: LogColor, variables: &[(&str, &str)], terminal: bool) -> Look {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let surroundings = Surroundings { variables, host_name: None, cores: 1 };
        Look::decide(&LogSettings { filter: "info".to_owned(), format, color }, &surroundings, terminal)
    }

    #[test]
    fn text_is_one_short_line_without_escapes_when_not_coloured() {
        let text = logged("info", Look::Text { color: false });
        assert_eq!(text.lines().count(), 1, "{text}");
        let (time, rest) = text.split_at("00:00:00.000".len());
        assert!(time.bytes().filter(u8::is_ascii_digit).count() == 9, "{text}");
        assert_eq!(rest.trim_end(), " INFO  mesh: up peer=orders-1 attempt=3");
    }

    #[test]
    fn a_value_is_quoted_when_it_has_to_be_whatever_its_type() {
        let sink = Sink::default();
        let subscriber = subscriber("info", Look::Text { color: false }, sink.clone()).unwrap();
        let (words, shown) = ("two words", format_args!("two words").to_string());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(words, shown = %shown, one = "one", shown_one = %"one", empty = "", none = None::<&str>, "message here");
            tracing::info!(line = "a\nb", shown_line = %"a\nb", quote = %"a\"b", path = "a\\b", time = ?Duration::from_millis(2), "x");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(": ").unwrap().1).collect();
        assert_eq!(
            lines,
            [
                r#"message here words="two words" shown="two words" one=one shown_one=one empty="""#,
                r#"x line="a\nb" shown_line="a\nb" quote="a\"b" path="a\\b" time=2ms"#,
            ]
        );
    }

    #[test]
    fn colour_is_there_when_asked_for() {
        assert!(logged("info", Look::Text { color: true }).contains("\u{1b}[32mINFO"));
    }

    #[test]
    fn filter_goes_by_target() {
        let text = logged("warn,rookery_node::mesh=debug", Look::Text { color: false });
        assert!(text.contains("dialling") && !text.contains("noise"), "{text}");
    }

    #[test]
    fn json_has_one_object_a_line_with_rfc_3339_time_and_fields() {
        let text = logged("info", Look::Json);
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "rookery_node::mesh");
        assert_eq!(line["message"], "up");
        assert_eq!(line["peer"], "orders-1");
        assert_eq!(line["attempt"], 3);
    }

    #[test]
    fn auto_is_json_only_in_a_pod_without_a_terminal() {
        let pod = [(POD_VARIABLE, "10.96.0.1")];
        let auto = |variables, terminal| look(LogFormat::Auto, LogColor::Auto, variables, terminal);
        assert_eq!(auto(&pod, false), Look::Json);
        assert_eq!(auto(&pod, true), Look::Text { color: true });
        assert_eq!(auto(&[], false), Look::Text { color: false });
        assert_eq!(auto(&[(NO_COLOR_VARIABLE, "1")], true), Look::Text { color: false });
        assert_eq!(look(LogFormat::Text, LogColor::Always, &pod, false), Look::Text { color: true });
        assert_eq!(look(LogFormat::Json, LogColor::Always, &[], true), Look::Json);
    }
}
