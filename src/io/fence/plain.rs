//! Tables of ours on whose contents no lease depends: written anew as a whole, in one transaction, and not watched.

use super::table::{self, DELETE_TABLE, Hook, NEW_TABLE, TABLE, TABLE_STEP};
use super::wire::{Batch, Bytes, CREATE};
use super::{FenceError, present, rules, socket};

/// A rule for what passes one interface: its index, and what writes the rule's expressions.
pub type Rule<'a> = (u32, Box<dyn Fn(&mut Bytes) + 'a>);

/// A chain for each interface; the rules of one that is gone are left out. Without rules, no table.
pub fn replace(name: &str, hook: &Hook, all: &[Rule<'_>]) -> Result<(), FenceError> {
    let mut socket = socket()?;
    let mut batch = socket.batch(None);
    // Only what exists can be deleted.
    new_table(&mut batch, name);
    batch.add(DELETE_TABLE, 0, "delete its table", |table| {
        table.text(TABLE, name);
    });
    if !all.is_empty() {
        new_table(&mut batch, name);
    }
    for (ifindex, device) in present(&socket, all.iter().map(|(ifindex, _)| *ifindex)) {
        let chain = format!("{}-{ifindex}", hook.name);
        table::new_chain(&mut batch, name, hook, &chain, &device);
        for (_, fill) in all.iter().filter(|(other, _)| *other == ifindex) {
            rules::add(&mut batch, name, &chain, |list| fill(list));
        }
    }
    Ok(socket.commit(batch)?)
}

fn new_table(batch: &mut Batch, name: &str) {
    batch.add(NEW_TABLE, CREATE, TABLE_STEP, |table| {
        table.text(TABLE, name);
    });
}
