//! Filters as they are configured: lists of globs to allow and to deny, for tools, resources and prompts.

use super::json::{FileError, ObjectReader};
use super::{ExactNames, Filter, FilterError, Offered};

/// The filters of one server, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterLists {
    /// Tools by exact name, as the keys of other programs have them. A tool that is denied here stays denied, whatever
    /// stands in `tools`.
    pub tool_names: ExactNames,
    /// For tools, by name.
    pub tools: GlobLists,
    /// For resources and templates, by URI.
    pub resources: GlobLists,
    /// For prompts, by name.
    pub prompts: GlobLists,
}

/// An allow list and a deny list. A name that matches both is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GlobLists {
    /// Names pass that match one of these globs; `None` for all names, so that an empty list lets nothing pass.
    pub allow: Option<Vec<String>>,
    /// Names do not pass that match one of these globs.
    pub deny: Vec<String>,
}

impl FilterLists {
    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        let lists = [&self.tools, &self.resources, &self.prompts];
        self.tool_names.is_empty() && lists.iter().all(|lists| lists.allow.is_none() && lists.deny.is_empty())
    }

    /// Merges these lists with `lower` ones: the upper allow list counts where there is one, and all deny lists and
    /// exact names count together.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            tool_names: self.tool_names.and(lower.tool_names),
            tools: self.tools.over(lower.tools),
            resources: self.resources.over(lower.resources),
            prompts: self.prompts.over(lower.prompts),
        }
    }

    /// Makes the filter; fails on a pattern that is not valid. The lists for resources hold for resource templates too.
    pub fn filter(&self) -> Result<Filter, FilterError> {
        let kinds = [
            (Offered::Tools, &self.tools),
            (Offered::Resources, &self.resources),
            (Offered::Templates, &self.resources),
            (Offered::Prompts, &self.prompts),
        ];
        let filter = Filter::new().tool_names(self.tool_names.clone());
        kinds.into_iter().try_fold(filter, |filter, (kind, lists)| {
            let filter = match &lists.allow {
                Some(allow) => filter.allow(kind, allow)?,
                None => filter,
            };
            filter.deny(kind, &lists.deny)
        })
    }

    pub(super) fn read(reader: &ObjectReader<'_>) -> Result<Self, FileError> {
        Ok(Self {
            tool_names: ExactNames::default(),
            tools: GlobLists::read(reader, ["allowTools", "allowTool", "denyTools", "denyTool"])?,
            resources: GlobLists::read(reader, ["allowResources", "allowResource", "denyResources", "denyResource"])?,
            prompts: GlobLists::read(reader, ["allowPrompts", "allowPrompt", "denyPrompts", "denyPrompt"])?,
        })
    }
}

impl GlobLists {
    fn over(self, lower: Self) -> Self {
        let mut deny = self.deny;
        deny.extend(lower.deny.into_iter().filter(|glob| !deny.contains(glob)).collect::<Vec<_>>());
        Self { allow: self.allow.or(lower.allow), deny }
    }

    fn read(reader: &ObjectReader<'_>, keys: [&'static str; 4]) -> Result<Self, FileError> {
        let globs = |plural, singular| -> Result<Option<Vec<String>>, FileError> {
            let Some(node) = reader.get_either(plural, singular)? else { return Ok(None) };
            let glob = |text: &str| check_glob(text).map(|()| text.to_owned());
            node.list()?
                .iter()
                .map(|node| node.parsed("a glob such as browser_*", glob))
                .collect::<Result<_, _>>()
                .map(Some)
        };
        let [allow, allow_one, deny, deny_one] = keys;
        Ok(Self { allow: globs(allow, allow_one)?, deny: globs(deny, deny_one)?.unwrap_or_default() })
    }
}

fn check_glob(glob: &str) -> Result<(), String> {
    Filter::new().deny(Offered::Tools, [glob]).map(drop).map_err(|error| error.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(globs: &[&str]) -> Vec<String> {
        globs.iter().map(|glob| (*glob).to_owned()).collect()
    }

    #[test]
    fn what_is_denied_anywhere_is_denied() {
        let upper = GlobLists { allow: None, deny: globs(&["a", "b"]) };
        let lower = GlobLists { allow: Some(globs(&["x"])), deny: globs(&["b", "c"]) };
        assert_eq!(upper.over(lower), GlobLists { allow: Some(globs(&["x"])), deny: globs(&["a", "b", "c"]) });
        let upper = GlobLists { allow: Some(Vec::new()), deny: Vec::new() };
        let lower = GlobLists { allow: Some(globs(&["x"])), deny: Vec::new() };
        assert_eq!(upper.clone().over(lower), upper);
    }

    #[test]
    fn a_filter_is_made_of_them() {
        let lists = |allow: &[&str]| GlobLists { allow: Some(globs(allow)), deny: Vec::new() };
        let filters = FilterLists {
            tools: GlobLists { allow: None, deny: globs(&["b*"]) },
            resources: lists(&["file:///*"]),
            prompts: lists(&[]),
            ..FilterLists::default()
        };
        let filter = filters.filter().unwrap();
        let offers = |kind, name| filter.allows(kind, name);
        assert!(offers(Offered::Tools, "a") && !offers(Offered::Tools, "bc"));
        assert!(offers(Offered::Resources, "file:///x/y") && !offers(Offered::Resources, "db://x"));
        assert!(offers(Offered::Templates, "file:///{path}") && !offers(Offered::Templates, "db://{x}"));
        assert!(!offers(Offered::Prompts, "a"));
        assert!(FilterLists::default().filter().unwrap().is_empty());
        let bad = FilterLists { tools: lists(&["a["]), ..FilterLists::default() };
        assert_eq!(bad.filter().unwrap_err().pattern, "a[");
    }
}
