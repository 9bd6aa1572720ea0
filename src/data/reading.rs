//! How the pictures of a set are read: what a user may say about it.

/// How pictures in files become the images of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whether a picture that cannot be read is an error. Otherwise it is left out, and the set says so.
    pub strict: bool,
}
