//! Where models are: names, caches, folders.

#![forbid(unsafe_code)]
