//! Repair: what verify finds wrong is set aside, what reads of it saved, what is lost told.

use std::path::Path;

use super::aside::set_aside;
use super::error::DiskContext;
use super::rebuild::move_catalog;
use super::recovery::lock;
use super::verify::Cure;
use super::{Store, StoreError, Wrong};
use crate::catalog::{CatalogPlace, Commit, Loss};
use crate::world::World;

impl Store {
    /// Sets the catalog of a closed store aside: the next opening makes another from the files.
    pub fn forget_catalog(world: &World, dir: &Path) -> Result<(), StoreError> {
        let _lock = lock(&*world.disk, dir)?;
        let place = CatalogPlace { dir: dir.join("catalog"), witness: dir.join("generation") };
        move_catalog(world, dir, &place)
    }

    /// Sets right all that [`Store::verify`] finds wrong, and writes what is in memory to segments, so that nothing of a
    /// damaged log is needed any more. What was wrong.
    pub fn repair(&self) -> Result<Vec<Wrong>, StoreError> {
        let wrong = self.verify()?.wrong;
        for of_file in &wrong {
            match of_file.cure {
                Cure::Segment(number) => self.set_right(number, &of_file.what)?,
                Cure::SetAside => {
                    let path = self.dir.join(&of_file.path);
                    set_aside(&*self.world.disk, &self.dir, &of_file.path).at("set aside", path)?;
                }
                Cure::State if self.tap.get().is_none() => {
                    self.catalog.commit(&Commit { checkpoint: Some(String::new()), ..Commit::default() })?;
                }
                Cure::State => self.flush_now()?,
                Cure::Open => {}
            }
        }
        self.flush()?;
        Ok(wrong)
    }

    /// Losses that nobody has taken note of.
    pub fn open_losses(&self) -> Vec<Loss> {
        let losses = self.catalog.losses();
        let known = losses.len().saturating_sub(self.catalog.losses_open() as usize);
        losses[known..].to_vec()
    }
}
