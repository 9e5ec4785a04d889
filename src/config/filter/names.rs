//! Exact names that may pass, and that may not: what other programs' keys say of tools and servers.
//!
//! These are no patterns. A name is compared as it is, byte by byte.

use std::collections::BTreeSet;

/// Which names pass. What is taken away is gone, even where it is named among those that pass too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExactNames {
    /// Only these pass; `None` for all, so that an empty set lets nothing pass.
    only: Option<BTreeSet<String>>,
    /// These do not pass.
    never: BTreeSet<String>,
}

impl ExactNames {
    /// Lets nothing pass but these, as far as they passed before.
    pub(in crate::config) fn allow_only(&mut self, names: impl IntoIterator<Item = String>) {
        let mut names: BTreeSet<String> = names.into_iter().collect();
        if let Some(only) = &self.only {
            names.retain(|name| only.contains(name));
        }
        self.only = Some(names);
    }

    /// Lets these pass no longer.
    pub(in crate::config) fn deny(&mut self, names: impl IntoIterator<Item = String>) {
        self.never.extend(names);
    }

    /// What passes both these and others.
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

    /// A step, by which names are kept or taken away.
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
