//! Publishing to an OpenStack cloud: Keystone, Glance, and Nova where there is one.
//!
//! ```text
//! Login --connect--> Cloud --plan--> Plan --publish--> Published
//!                      |                       |
//!                      |                       transfer (private, hidden) - check - promote - prune
//!                      images, promote, rollback, prune
//! ```
//!
//! Everything that is begun is written down first (`journal`), and every image of ours says in its
//! properties what it is (`lineage`): so any run may be killed at any moment, and the next one goes on.

pub use artifact::Artifact;
pub use cloud::{Cloud, Named, Patience};
pub use compute::BootTest;
pub use content::Content;
pub use image::{Image, Member, Visibility};
pub use lineage::{Promotion, Pruned, Replaced, State};
pub use login::{Login, Places, Wanted};
pub use publish::{Form, Plan, Publication, Published};
pub use transfer::ImportMethod;

mod artifact;
mod cloud;
mod compute;
mod content;
mod failure;
mod image;
mod journal;
mod lineage;
mod login;
mod publish;
mod recovery;
mod token;
mod transfer;
