//! Floor 4: HTTP interfaces and the web page; the only crate that is async. Empty so far: the floor is named, so that
//! nothing of it lands elsewhere.
#![forbid(unsafe_code)]
