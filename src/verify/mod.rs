//! Boots an image as the cloud would and proves a platform's contract.
//!
//! A [`contract::Contract`] is data: statements with typed probes. [`verify`] reads the disk without
//! booting it, then boots overlays of it, each with its own metadata, and makes each check where it
//! belongs. What comes of it is a [`report::Report`]; module `crate::report::verification` shows it.

pub mod contract;
pub mod disk;
pub mod guacamole;
mod instance;
mod metadata;
pub mod ports;
mod probes;
pub mod report;
mod run;
pub mod token;
pub mod web;

pub use run::{Found, LEAST_MEMORY, Options, Pictures, verify};
