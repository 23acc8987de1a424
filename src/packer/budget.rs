//! How much an evaluation may take: a template is a text of somebody else's.

use std::cell::Cell;

/// Evaluated expressions and turns of loops.
const STEPS: u64 = 200_000;
/// All values made, bytes.
const BYTES: u64 = 64 << 20;
/// Expressions in each other, also through locals.
const DEPTH: u32 = 100;

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    depth: Cell<u32>,
    refused: Cell<bool>,
}

/// The evaluation takes more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted(pub(super) &'static str);

/// One level deeper, until it is dropped.
#[derive(Debug)]
pub(super) struct Level<'b>(&'b Budget);

impl Default for Budget {
    fn default() -> Self {
        Self { steps: Cell::new(STEPS), bytes: Cell::new(BYTES), depth: Cell::new(0), refused: Cell::new(false) }
    }
}

impl Budget {
    /// Takes a step, one level deeper.
    pub(super) fn enter(&self) -> Result<Level<'_>, Exhausted> {
        let left = self.steps.get().checked_sub(1);
        let Some(left) = left else {
            // Nothing is evaluated any more.
            self.bytes.set(0);
            self.refuse();
            return Err(Exhausted("the template takes more than 200000 steps to evaluate"));
        };
        self.steps.set(left);
        if self.depth.get() >= DEPTH {
            self.refuse();
            return Err(Exhausted("expressions are more than 100 levels deep"));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(Level(self))
    }

    /// Takes steps for what takes longer than one.
    pub(super) fn spend(&self, steps: u64) -> Result<(), Exhausted> {
        let left = self.steps.get().checked_sub(steps);
        self.steps.set(left.unwrap_or_default());
        left.map(drop).ok_or_else(|| {
            self.bytes.set(0);
            self.refuse();
            Exhausted("the template takes more than 200000 steps to evaluate")
        })
    }

    /// Takes memory.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let left = u64::try_from(bytes).ok().and_then(|bytes| self.bytes.get().checked_sub(bytes));
        let Some(left) = left else {
            self.bytes.set(0);
            self.steps.set(0);
            self.refuse();
            return Err(Exhausted("the template's values take more than 64 MiB"));
        };
        self.bytes.set(left);
        Ok(())
    }

    /// Notes that it is the import that has no value, for limits and refusals of its own, where Packer may have one.
    pub(super) fn refuse(&self) {
        self.refused.set(true);
    }

    /// The same, with what is told.
    pub(super) fn limit<M>(&self, message: M) -> M {
        self.refuse();
        message
    }

    /// Whether the import refused something while `what` was done.
    pub(super) fn refuses<T>(&self, what: impl FnOnce() -> T) -> (T, bool) {
        let before = self.refused.replace(false);
        let value = what();
        let refused = self.refused.get();
        self.refused.set(before || refused);
        (value, refused)
    }

    /// What is left, bytes.
    pub(super) fn left(&self) -> usize {
        usize::try_from(self.bytes.get()).unwrap_or(usize::MAX)
    }
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get().saturating_sub(1));
    }
}
