//! A Guacamole client: opens a desktop on a guest's guacd exactly as VISA does, and draws it.
//!
//! The protocol is documented in the Guacamole manual ("Guacamole protocol reference"); numbers are
//! libguac's (protocol-types.h). VISA's side of the handshake is guacamole-common 1.5.5's.

mod blend;
mod canvas;
#[cfg(test)]
mod canvas_tests;
mod connection;
mod layer;
mod login;
mod protocol;
mod raster;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use canvas::Canvas;
pub use connection::{Connection, End, Followed};
pub use login::{Login, Screen};
pub use status::Status;
