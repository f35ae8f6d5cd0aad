//! The program `cloud-variables`, a complete cloud server for people without an app of their own, as an example.

#[path = "../src/bin/cloud-variables/main.rs"]
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    server::main()
}
