//! Metrics as text: in Prometheus' format 0.0.4, and in OpenMetrics 1.0 for those who prefer it. The two differ in the names of
//! counters and in the end. Sources: Prometheus' "Exposition formats"; the OpenMetrics specification.

use std::fmt::Write;

use super::table::{Kind, Metric};

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// What suits who accepts this. Prometheus names OpenMetrics first where it can read it.
    pub(in crate::admin) fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    pub(in crate::admin) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A sample's value. Whole numbers are written whole, however large.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// A histogram's classes, in the form in which they are counted: each by itself, the last above all bounds.
pub(super) struct Classes<'a> {
    pub(super) bounds: &'a [f64],
    pub(super) counts: &'a [u64],
    pub(super) sum_seconds: f64,
}

/// Writes metrics, each with all its samples.
pub(super) struct Writer {
    out: String,
    format: Format,
}

impl Writer {
    pub(super) fn new(format: Format) -> Self {
        Self { out: String::with_capacity(16 * 1024), format }
    }

    /// A metric without labels.
    pub(super) fn one(&mut self, metric: &Metric, value: impl Into<Value>) {
        self.head(metric);
        self.sample(metric.name, "", metric.labels, &[], None, value.into());
    }

    /// A metric without labels, if the system tells it.
    pub(super) fn if_known<V: Into<Value>>(&mut self, metric: &Metric, value: Option<V>) {
        self.head(metric);
        if let Some(value) = value {
            self.sample(metric.name, "", metric.labels, &[], None, value.into());
        }
    }

    /// A metric with a sample for each combination of labels' values.
    pub(super) fn many<'a, const N: usize, V: Into<Value>>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'a str; N], V)>,
    ) {
        self.head(metric);
        for (values, value) in samples {
            self.sample(metric.name, "", metric.labels, &values, None, value.into());
        }
    }

    /// A histogram for each combination of labels' values.
    pub(super) fn histograms<'a, const N: usize>(
        &mut self,
        metric: &Metric,
        histograms: impl IntoIterator<Item = ([&'a str; N], Classes<'a>)>,
    ) {
        self.head(metric);
        for (values, classes) in histograms {
            let mut so_far = 0;
            for (number, count) in classes.counts.iter().enumerate() {
                so_far += count;
                let le = classes.bounds.get(number).map_or("+Inf".to_owned(), ToString::to_string);
                self.sample(metric.name, "_bucket", metric.labels, &values, Some(&le), so_far.into());
            }
            self.sample(metric.name, "_sum", metric.labels, &values, None, classes.sum_seconds.into());
            self.sample(metric.name, "_count", metric.labels, &values, None, so_far.into());
        }
    }

    /// The text.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn head(&mut self, metric: &Metric) {
        let name = match (self.format, metric.kind) {
            // There, a counter is called without what its sample ends in.
            (Format::OpenMetrics, Kind::Counter) => metric.name.strip_suffix("_total").unwrap_or(metric.name),
            _ => metric.name,
        };
        let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", metric.kind.name()));
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[&str], values: &[&str], le: Option<&str>, value: Value) {
        self.write(format_args!("{name}{suffix}"));
        let mut between = '{';
        for (label, value) in labels.iter().copied().zip(values.iter().copied()).chain(le.map(|le| ("le", le))) {
            self.out.push(between);
            self.write(format_args!("{label}=\""));
            self.escape(value);
            self.out.push('"');
            between = ',';
        }
        if between == ',' {
            self.out.push('}');
        }
        match value {
            Value::Whole(value) => self.write(format_args!(" {value}\n")),
            Value::Real(value) if value.is_nan() => self.out.push_str(" NaN\n"),
            Value::Real(value) if value.is_infinite() => {
                self.out.push_str(if value > 0.0 { " +Inf\n" } else { " -Inf\n" })
            }
            Value::Real(value) => self.write(format_args!(" {value}\n")),
        }
    }

    fn escape(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                c => self.out.push(c),
            }
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // A `String` takes all that is written to it.
        if self.out.write_fmt(text).is_err() {
            tracing::debug!("a metric was not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTER: Metric =
        Metric { name: "a_total", kind: Kind::Counter, labels: &["b", "c"], help: "one \\ two\nthree" };
    const HISTOGRAM: Metric = Metric { name: "h_seconds", kind: Kind::Histogram, labels: &["b"], help: "h" };

    fn written(format: Format) -> String {
        let mut writer = Writer::new(format);
        writer.many(&COUNTER, [(["x", "say \"\\\n"], 3_u64)]);
        let classes = Classes { bounds: &[0.00001, 1.0], counts: &[2, 0, 1], sum_seconds: 61.5 };
        writer.histograms(&HISTOGRAM, [(["y"], classes)]);
        writer.finish()
    }

    const HISTOGRAM_TEXT: &str = "# HELP h_seconds h\n# TYPE h_seconds histogram\n\
        h_seconds_bucket{b=\"y\",le=\"0.00001\"} 2\n\
        h_seconds_bucket{b=\"y\",le=\"1\"} 2\n\
        h_seconds_bucket{b=\"y\",le=\"+Inf\"} 3\n\
        h_seconds_sum{b=\"y\"} 61.5\n\
        h_seconds_count{b=\"y\"} 3\n";

    #[test]
    fn prometheus_reads_its_own_format() {
        let counter = "# HELP a_total one \\\\ two\\nthree\n# TYPE a_total counter\n\
            a_total{b=\"x\",c=\"say \\\"\\\\\\n\"} 3\n";
        assert_eq!(written(Format::Prometheus), format!("{counter}{HISTOGRAM_TEXT}"));
    }

    #[test]
    fn openmetrics_calls_counters_by_their_family_and_has_an_end() {
        let counter = "# HELP a one \\\\ two\\nthree\n# TYPE a counter\n\
            a_total{b=\"x\",c=\"say \\\"\\\\\\n\"} 3\n";
        assert_eq!(written(Format::OpenMetrics), format!("{counter}{HISTOGRAM_TEXT}# EOF\n"));
    }

    #[test]
    fn numbers_that_are_none_are_written_as_the_format_has_them() {
        let mut writer = Writer::new(Format::Prometheus);
        writer.many(&HISTOGRAM, [(["n"], f64::NAN), (["p"], f64::INFINITY), (["m"], f64::NEG_INFINITY)]);
        assert!(writer.finish().ends_with("{b=\"n\"} NaN\nh_seconds{b=\"p\"} +Inf\nh_seconds{b=\"m\"} -Inf\n"));
    }

    #[test]
    fn the_format_is_what_is_accepted() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(Format::accepted(Some("*/*")), Format::Prometheus);
        assert_eq!(Format::accepted(None), Format::Prometheus);
    }
}
