//! Every command that the documentation shows is one.

use std::path::Path;

use clap::Parser;

use super::Cli;
use documented::{commands, pages, words};

#[path = "../../tests/common/documented.rs"]
mod documented;

#[test]
fn commands_of_the_documentation_are_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = vec![];
    let mut count = 0;
    for page in pages(root) {
        for shown in commands(root, &page) {
            count += 1;
            let args = std::iter::once("altiplano").chain(shown.args.iter().map(String::as_str));
            match Cli::try_parse_from(args) {
                Err(error) if error.use_stderr() => wrong.push(format!("{page}:{}: {error}", shown.line)),
                // Without a command it is the first page, which a line with options hardly means.
                Ok(cli) if cli.command.is_none() && !shown.args.is_empty() => {
                    wrong.push(format!("{page}:{}: no command", shown.line));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 60, "only {count} commands were found");
}

#[test]
fn words_are_those_of_a_shell() {
    assert_eq!(words("a 'b  #c'  \"d\"e # f"), ["a", "b  #c", "de"]);
    assert_eq!(words("a '' > b"), ["a", ""]);
    assert_eq!(words("train --arch '|x~0|+|y|' | tee log"), ["train", "--arch", "|x~0|+|y|"]);
}
