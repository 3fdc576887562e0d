//! **Configuration**: layers as written (built-in defaults, files, environment) compile to
//! [`Settings`] as run, and every problem is reported at once, with its place.

mod settings;

pub use settings::*;
