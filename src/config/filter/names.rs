//! Allow and deny lists of exact names, which other programs' keys have for tools and servers.
//!
//! Names are compared byte by byte: `*` has no meaning here.

use std::collections::BTreeSet;

/// Which names pass. A name that is denied does not pass, even where it is allowed too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExactNames {
    /// The names that may pass; `None` for all names, so that an empty set lets nothing pass.
    only: Option<BTreeSet<String>>,
    /// The names that are denied.
    never: BTreeSet<String>,
}

impl ExactNames {
    /// Lets only these names pass from now on, as far as they passed before.
    pub(in crate::config) fn allow_only(&mut self, names: impl IntoIterator<Item = String>) {
        let mut names: BTreeSet<String> = names.into_iter().collect();
        if let Some(only) = &self.only {
            names.retain(|name| only.contains(name));
        }
        self.only = Some(names);
    }

    /// Lets these names pass no longer.
    pub(in crate::config) fn deny(&mut self, names: impl IntoIterator<Item = String>) {
        self.never.extend(names);
    }

    /// The names that pass both lists.
    #[must_use]
    pub(in crate::config) fn and(mut self, other: Self) -> Self {
        if let Some(only) = other.only {
            self.allow_only(only);
        }
        self.deny(other.never);
        self
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.only.is_none() && self.never.is_empty()
    }

    /// Whether this name passes.
    pub fn allows(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name)) && !self.never.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Steps, by each of which names are allowed (`true`) or denied.
    fn steps() -> impl Strategy<Value = Vec<(bool, Vec<String>)>> {
        prop::collection::vec((any::<bool>(), prop::collection::vec("[ab]{0,2}", 0..6)), 0..6)
    }

    fn after(steps: &[(bool, Vec<String>)]) -> ExactNames {
        let mut names = ExactNames::default();
        for (keep, step) in steps {
            if *keep { names.allow_only(step.clone()) } else { names.deny(step.clone()) }
        }
        names
    }

    proptest! {
        #[test]
        fn a_name_passes_if_it_passes_every_step(first in steps(), second in steps(), name in "[ab]{0,2}") {
            let passes = |steps: &[(bool, Vec<String>)]| steps.iter().all(|(keep, step)| step.contains(&name) == *keep);
            prop_assert_eq!(after(&first).allows(&name), passes(&first));
            prop_assert_eq!(after(&first).and(after(&second)).allows(&name), passes(&first) && passes(&second));
        }
    }

    #[test]
    fn nothing_said_lets_everything_pass() {
        assert!(ExactNames::default().is_empty() && ExactNames::default().allows("a"));
        let mut nothing = ExactNames::default();
        nothing.allow_only([]);
        assert!(!nothing.is_empty() && !nothing.allows("a"));
    }
}
