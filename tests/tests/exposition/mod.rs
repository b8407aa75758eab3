//! A strict reader of Prometheus' text format 0.0.4: what the format allows and Prometheus' own client libraries would not write
//! is an error, too. Source: Prometheus' "Exposition formats".

use std::collections::BTreeMap;

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Its name, as `a_seconds_bucket`.
    pub(crate) name: String,
    /// Its labels, in order.
    pub(crate) labels: Vec<(String, String)>,
    /// Its value.
    pub(crate) value: f64,
}

/// A metric with all its samples.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Family {
    /// Its name.
    pub(crate) name: String,
    /// `counter`, `gauge` or `histogram`.
    pub(crate) kind: String,
    /// Its samples.
    pub(crate) samples: Vec<Sample>,
}

/// All of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exposition {
    /// Its metrics, in order.
    pub(crate) families: Vec<Family>,
    /// Each sample by its name and labels, as they stand in the text.
    pub(crate) series: BTreeMap<String, f64>,
}

impl Exposition {
    /// The value of a sample, as `a_total{b="c"}`.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }
}

/// Reads a text.
pub(crate) fn parse(text: &str) -> Result<Exposition, String> {
    let mut families: Vec<Family> = Vec::new();
    let mut series = BTreeMap::new();
    let mut help: Option<String> = None;
    let body = text.strip_suffix('\n').ok_or("the last line has no end")?;
    for line in body.split('\n') {
        let wrong = |what: &str| format!("{what}: `{line}`");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
            if text.is_empty() || help.is_some() {
                return Err(wrong("a help that is empty, or without its type"));
            }
            help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
            if help.take().as_deref() != Some(name) {
                return Err(wrong("a type without its help before it"));
            }
            if !is_name(name, true) || !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(wrong("a name or a type that is none"));
            }
            if families.iter().any(|family| family.name == name) {
                return Err(wrong("a metric twice"));
            }
            families.push(Family { name: name.to_owned(), kind: kind.to_owned(), samples: Vec::new() });
        } else {
            let sample = sample(line).ok_or_else(|| wrong("no sample"))?;
            let family =
                families.last_mut().filter(|_| help.is_none()).ok_or_else(|| wrong("a sample of no metric"))?;
            let suffix =
                sample.name.strip_prefix(family.name.as_str()).ok_or_else(|| wrong("a sample of another metric"))?;
            let fits = match family.kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                _ => suffix.is_empty(),
            };
            if !fits || (family.kind != "gauge" && (sample.value.is_nan() || sample.value < 0.0)) {
                return Err(wrong("not what its type may have"));
            }
            let (name, _) = line.rsplit_once(' ').ok_or_else(|| wrong("no value"))?;
            if series.insert(name.to_owned(), sample.value).is_some() {
                return Err(wrong("a series twice"));
            }
            family.samples.push(sample);
        }
    }
    for family in families.iter().filter(|family| family.kind == "histogram") {
        check_histogram(family)?;
    }
    Ok(Exposition { families, series })
}

/// Classes grow, have growing bounds, and end at infinity with the count; there is a sum.
fn check_histogram(family: &Family) -> Result<(), String> {
    type Labels = Vec<(String, String)>;
    let mut classes: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    let mut others: BTreeMap<(Labels, &str), f64> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        let le = labels.iter().position(|(name, _)| name == "le").map(|at| labels.remove(at).1);
        match (le, sample.name.strip_prefix(family.name.as_str())) {
            (Some(le), Some("_bucket")) => {
                let le = number(&le).ok_or_else(|| format!("a bound that is no number: {sample:?}"))?;
                classes.entry(labels).or_default().push((le, sample.value));
            }
            (None, Some(suffix @ ("_sum" | "_count"))) => {
                others.insert((labels, suffix), sample.value);
            }
            _ => return Err(format!("no part of a histogram: {sample:?}")),
        }
    }
    for (labels, classes) in classes {
        let wrong = |what: &str| format!("{}{labels:?}: {what}", family.name);
        if !classes.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1) {
            return Err(wrong("bounds or counts that do not grow"));
        }
        let last = classes.last().filter(|(le, _)| *le == f64::INFINITY).ok_or_else(|| wrong("no class above all"))?;
        if others.remove(&(labels.clone(), "_count")) != Some(last.1) {
            return Err(wrong("a count that is not that of the last class"));
        }
        others.remove(&(labels.clone(), "_sum")).ok_or_else(|| wrong("no sum"))?;
    }
    if others.is_empty() { Ok(()) } else { Err(format!("{}: counts without classes", family.name)) }
}

fn is_name(text: &str, colons: bool) -> bool {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || (colons && c == ':'));
    first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':'))
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        text if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => text.parse().ok(),
        _ => None,
    }
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels: Vec<(String, String)> = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if !is_name(label, false) || labels.iter().any(|(known, _)| known == label) {
                return None;
            }
            labels.push((label.to_owned(), value));
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    let value = number(rest.strip_prefix(' ')?)?;
    is_name(name, true).then(|| Sample { name: name.to_owned(), labels, value })
}

/// A label's value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                _ => return None,
            },
            (_, c) => value.push(c),
        }
    }
}

#[test]
fn what_is_wrong_is_found() {
    const GOOD: &str = "# HELP a b\n# TYPE a gauge\na{b=\"c\\\"\"} 1\n";
    assert_eq!(parse(GOOD).unwrap().value("a{b=\"c\\\"\"}"), Some(1.0));
    for bad in [
        "# HELP a b\n# TYPE a gauge\na 1",
        "# TYPE a gauge\na 1\n",
        "a 1\n",
        "# HELP a b\n# TYPE a gauge\na 1\na 2\n",
        "# HELP a b\n# TYPE a gauge\nb 1\n",
        "# HELP a b\n# TYPE a counter\na -1\n",
        "# HELP a b\n# TYPE a gauge\na one\n",
        "# HELP a b\n# TYPE a gauge\na{b=\"\\x\"} 1\n",
        "# HELP a b\n# TYPE a gauge\na{b=\"1\",b=\"2\"} 1\n",
        "# HELP a b\n# TYPE a gauge\n\na 1\n",
        "# HELP a b\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
        "# HELP a b\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 1\n",
        "# HELP a b\n# TYPE a histogram\na_bucket{le=\"1\"} 3\na_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 2\n",
        "# HELP a b\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 1\n",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
