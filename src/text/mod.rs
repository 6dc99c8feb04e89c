//! Values written as text, in the forms that requests and the configuration share.

pub mod percent;
pub mod quantities;
