//! The pages that there are: their addresses, and what each may be asked.

use super::{
    Viewer, directory,
    layout::Body,
    nodes, overview, process, processes,
    query::{Link, Query},
    trees,
};

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    Node,
    Processes,
    Process,
    Trees,
    Names,
    Groups,
    Group,
}

/// The pages that each page leads to, with their names.
pub(super) const PAGES: [(Page, &str); 5] = [
    (Page::Overview, "Overview"),
    (Page::Processes, "Processes"),
    (Page::Trees, "Trees"),
    (Page::Names, "Names"),
    (Page::Groups, "Groups"),
];

/// Address, page, and the parts of a query that it knows.
const ROUTES: [(&str, Page, &[&str]); 8] = [
    ("", Page::Overview, &["page"]),
    ("node", Page::Node, &["name"]),
    ("processes", Page::Processes, &["sort", "reverse", "node", "filter", "page"]),
    ("process", Page::Process, &["pid"]),
    ("trees", Page::Trees, &[]),
    ("names", Page::Names, &["filter"]),
    ("groups", Page::Groups, &["filter"]),
    ("group", Page::Group, &["name"]),
];

impl Page {
    /// The page at an address, and what of `query` counts for it.
    pub(super) fn find(address: &str, query: Option<&str>) -> Option<(Self, Query)> {
        let (_, page, keys) = ROUTES.iter().find(|(known, ..)| *known == address)?;
        Some((*page, Query::read(query).only(keys)))
    }

    /// Where it is, from any other.
    pub(super) fn address(self) -> &'static str {
        match ROUTES.iter().find(|(_, page, _)| *page == self) {
            Some((address, ..)) if !address.is_empty() => address,
            _ => "./",
        }
    }

    pub(super) fn link(self) -> Link {
        Query::default().link(self.address())
    }

    /// The one of [`PAGES`] that it belongs to.
    pub(super) fn section(self) -> Self {
        match self {
            Self::Node => Self::Overview,
            Self::Process => Self::Processes,
            Self::Group => Self::Groups,
            listed => listed,
        }
    }

    /// Asks, and shows what came.
    pub(super) async fn body(self, viewer: &Viewer<'_>) -> Body {
        match self {
            Self::Overview => overview::body(viewer).await,
            Self::Node => nodes::body(viewer).await,
            Self::Processes => processes::body(viewer).await,
            Self::Process => process::body(viewer).await,
            Self::Trees => trees::body(viewer).await,
            Self::Names => directory::names(viewer).await,
            Self::Groups => directory::groups(viewer).await,
            Self::Group => directory::members(viewer).await,
        }
    }
}
