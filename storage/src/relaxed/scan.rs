//! One scan over two sources in key order.

use std::iter::Peekable;

use super::Pending;
use crate::engine::flat_key;
use crate::{Space, Storage, StorageError};

/// Visits the engine's records with the pending ones over them.
pub(super) fn over(
    pending: &Pending,
    engine: &impl Storage,
    space: Space,
    prefix: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), StorageError> {
    let first = flat_key(space, prefix);
    let above = pending
        .range(first.clone()..)
        .take_while(|(key, _)| key.starts_with(&first))
        .map(|(key, value)| (key.get(1..).unwrap_or_default(), value.as_deref()));
    let mut merge = Merge {
        above: above.peekable(),
        visit,
        stopped: false,
    };
    engine.scan(space, prefix, &mut |key, value| merge.below(key, value))?;
    merge.rest();
    Ok(())
}

struct Merge<'v, 'p, I: Iterator<Item = (&'p [u8], Option<&'p [u8]>)>> {
    above: Peekable<I>,
    visit: &'v mut dyn FnMut(&[u8], &[u8]) -> bool,
    stopped: bool,
}

impl<'p, I: Iterator<Item = (&'p [u8], Option<&'p [u8]>)>> Merge<'_, 'p, I> {
    /// A record of the engine: first what stands before it or in its place; false to stop.
    fn below(&mut self, key: &[u8], value: &[u8]) -> bool {
        let mut is_replaced = false;
        while let Some((above, change)) = self.above.next_if(|(above, _)| *above <= key) {
            is_replaced = above == key;
            if !self.changed(above, change) {
                return false;
            }
        }
        is_replaced || self.show(key, value)
    }

    /// What stands behind the engine's last record.
    fn rest(&mut self) {
        while !self.stopped
            && let Some((key, change)) = self.above.next()
        {
            self.changed(key, change);
        }
    }

    fn changed(&mut self, key: &[u8], change: Option<&[u8]>) -> bool {
        change.is_none_or(|value| self.show(key, value))
    }

    fn show(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.stopped |= !(self.visit)(key, value);
        !self.stopped
    }
}
