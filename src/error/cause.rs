//! What an error is about, as a fact that programs can judge.

use crate::guest::{Outcome, SshFault};
use crate::machine::Ended;

/// What an error is about. Whoever makes an error knows it; nobody has to read it out of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The machine ended, or can no longer go on.
    Machine(Ended),
    /// The program that runs the guest did not come up.
    NotStarted,
    /// The guest did not let the build in.
    Ssh(SshFault),
    /// A command in the guest did not end as it should.
    Command(Outcome),
    /// A provisioner failed.
    Step {
        /// Its label in messages.
        name: String,
        /// How its command ended, where a command is what failed.
        outcome: Option<Outcome>,
    },
    /// The guest did not get the keys that were typed.
    Mistyped,
    /// An installer ended without a system on the disk.
    Installation,
    /// It took longer than it may.
    TimedOut,
}
