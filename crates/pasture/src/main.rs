//! The program `pasture`: parses the command line and hands each verb to its file. No work is done here.

#![forbid(unsafe_code)]

fn main() {}
