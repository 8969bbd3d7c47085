//! All targets, found by name and by environment: a step of one track must not cost what the whole
//! fleet is large.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use holdfast_protocol::name::{EnvironmentName, TargetName};

use super::Target;

/// The targets. A target stays in the environment in which it was inserted.
#[derive(Debug, Default)]
pub struct Targets {
    all: BTreeMap<TargetName, Target>,
    places: BTreeMap<EnvironmentName, BTreeSet<TargetName>>,
}

impl Targets {
    /// One of them.
    #[must_use]
    pub fn get(&self, name: &TargetName) -> Option<&Target> {
        self.all.get(name)
    }

    /// One of them, to be changed in all but its environment.
    pub fn get_mut(&mut self, name: &TargetName) -> Option<&mut Target> {
        self.all.get_mut(name)
    }

    /// Puts a target in its place; gives the one of that name that was there.
    pub fn insert(&mut self, name: TargetName, target: Target) -> Option<Target> {
        let before = self.remove(&name);
        let environment = target.kept.environment.clone();
        self.places
            .entry(environment)
            .or_default()
            .insert(name.clone());
        self.all.insert(name, target);
        before
    }

    /// Takes a target out.
    pub fn remove(&mut self, name: &TargetName) -> Option<Target> {
        let target = self.all.remove(name)?;
        let environment = &target.kept.environment;
        if let Some(names) = self.places.get_mut(environment) {
            names.remove(name);
            if names.is_empty() {
                self.places.remove(environment);
            }
        }
        Some(target)
    }

    /// All of them, by name.
    pub fn values(&self) -> impl Iterator<Item = &Target> + Clone {
        self.all.values()
    }

    /// Those whose names come after `name`, by name.
    pub fn after(&self, name: Option<&TargetName>) -> impl Iterator<Item = &Target> {
        let begin = name.map_or(Bound::Unbounded, Bound::Excluded);
        self.all
            .range::<TargetName, _>((begin, Bound::Unbounded))
            .map(|(_, target)| target)
    }

    /// Those of one environment, by name.
    pub fn of(
        &self,
        environment: &EnvironmentName,
    ) -> impl Iterator<Item = (&TargetName, &Target)> {
        let names = self.places.get(environment).into_iter().flatten();
        names.filter_map(|name| Some((name, self.all.get(name)?)))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl FromIterator<Target> for Targets {
    fn from_iter<T: IntoIterator<Item = Target>>(targets: T) -> Self {
        let mut all = Self::default();
        for target in targets {
            all.insert(target.kept.name.clone(), target);
        }
        all
    }
}
