//! What a workload has made, by where it is: each written down before it is made, so that what the
//! template names no more is found and deleted, also after a call that was cut off.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Failure, memory};

/// All that one workload has made, or was about to make.
#[derive(Debug)]
pub struct Made<T> {
    directory: PathBuf,
    all: Vec<T>,
}

impl<T: Clone + PartialEq + Serialize + DeserializeOwned> Made<T> {
    /// What is remembered in a workload's directory; nothing where nothing is.
    #[must_use]
    pub fn recall(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            all: memory::recall(directory, FILE).unwrap_or_default(),
        }
    }

    /// Writes `one` down. To be called before it is made.
    ///
    /// # Errors
    /// As of [`memory::remember`].
    pub fn note(&mut self, one: &T) -> Result<(), Failure> {
        if self.all.contains(one) {
            return Ok(());
        }
        self.all.push(one.clone());
        memory::remember(&self.directory, FILE, &self.all)
    }

    /// What was made beside `mine`: it is to go once `mine` is there.
    pub fn others(&self, mine: &T) -> Vec<T> {
        let others = self.all.iter().filter(|other| *other != mine);
        others.cloned().collect()
    }

    /// Forgets everything but `mine`. To be called once [the others](Self::others) are gone.
    ///
    /// # Errors
    /// As of [`memory::remember`].
    pub fn keep(&mut self, mine: &T) -> Result<(), Failure> {
        let before = self.all.len();
        self.all.retain(|one| one == mine);
        if self.all.len() == before {
            return Ok(());
        }
        memory::remember(&self.directory, FILE, &self.all)
    }

    /// Everything, and what the template `names`, which was made before a memory that was lost.
    #[must_use]
    pub fn all(mut self, names: Option<T>) -> Vec<T> {
        let lost = names.filter(|named| !self.all.contains(named));
        self.all.extend(lost);
        self.all
    }
}

/// The file, in the workload's directory.
const FILE: &str = "made.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_under_another_name_is_known_until_it_is_gone() {
        let room = tempfile::tempdir().unwrap();
        let recall = || Made::<u32>::recall(room.path());
        recall().note(&1).unwrap();
        // The call that made it was cut off; the template names another one by now.
        let mut made = recall();
        made.note(&2).unwrap();
        made.note(&2).unwrap();
        assert_eq!(made.others(&2), [1]);
        assert_eq!(recall().all(None), [1, 2]);
        made.keep(&2).unwrap();
        assert_eq!(recall().all(None), [2]);
        assert_eq!(recall().others(&2), [] as [u32; 0]);
    }

    #[test]
    fn what_a_lost_memory_does_not_know_is_taken_from_the_template_once() {
        let room = tempfile::tempdir().unwrap();
        let mut made = Made::<u32>::recall(room.path());
        made.note(&1).unwrap();
        assert_eq!(made.all(Some(1)), [1]);
        assert_eq!(Made::<u32>::recall(room.path()).all(Some(2)), [1, 2]);
    }
}
