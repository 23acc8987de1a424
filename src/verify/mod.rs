//! Boots an image as the cloud would and proves a platform's contract.

pub mod contract;
pub mod disk;
pub mod guacamole;
pub mod ports;
pub mod report;
pub mod token;
pub mod web;
