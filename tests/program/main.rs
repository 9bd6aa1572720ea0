//! The program from outside: results, files, and what it says about bad input.
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/documented.rs"]
mod documented;
#[path = "../common/program.rs"]
mod program;
#[cfg(feature = "download")]
#[path = "../common/server.rs"]
mod server;

mod bench;
mod cli;
mod correlate;
mod corrupt;
mod data;
mod documentation;
mod download;
mod examples;
mod export;
mod first;
mod heads;
mod landscape;
mod onnx;
mod outputs;
mod record;
mod score;
mod streamed;
mod tuning;
mod weights;
