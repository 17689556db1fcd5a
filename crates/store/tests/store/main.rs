//! The store as a whole: names, removal, garbage, damage; killed at every point, without power at every point, and used
//! by many processes at once.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod crash;
mod ledger;
mod machine;
mod manage;
mod names;
#[path = "../../../../tests/power.rs"]
mod power;
mod power_loss;
mod stress;
mod verify;
