//! Pasture as a library: copy, modify and reuse open-weight AI models.

#![forbid(unsafe_code)]
