//! The verbs: one file each, with its flags, its help and what it does.

mod bench;
mod bundle;
mod chat;
mod check;
mod compare;
mod completions;
mod config;
mod cp;
mod create;
mod data;
mod detokenize;
mod doctor;
mod draft;
mod du;
mod embed;
mod eval;
mod export;
mod fetch;
mod gc;
mod generate;
mod history;
mod hollow;
mod keys;
mod lineage;
mod list;
mod logits;
mod man;
mod merge;
mod model;
mod place;
mod plan;
mod prepare;
mod ps;
mod pull;
mod push;
mod quantize;
mod receipt;
mod rm;
mod search;
mod serve;
mod show;
mod stop;
mod template;
mod tokenize;
mod trust;
mod tune;
mod unbundle;
mod verify;

use clap::Subcommand;

use crate::exit::Failure;
use crate::settings::{self, Given};

/// What the program can do.
#[derive(Subcommand)]
pub enum Verb {
    Chat(Box<chat::Arguments>),
    Generate(Box<generate::Arguments>),
    Tokenize(tokenize::Arguments),
    Detokenize(detokenize::Arguments),
    Template(template::Arguments),
    Show(show::Arguments),
    List(list::Arguments),
    Pull(Box<pull::Arguments>),
    Push(Box<push::Arguments>),
    Search(search::Arguments),
    Cp(cp::Arguments),
    Rm(rm::Arguments),
    Gc(gc::Arguments),
    Verify(verify::Arguments),
    Du(du::Arguments),
    Check(check::Arguments),
    Logits(logits::Arguments),
    Bench(Box<bench::Arguments>),
    Plan(Box<plan::Arguments>),
    Prepare(Box<prepare::Arguments>),
    Eval(Box<eval::Arguments>),
    Compare(Box<compare::Arguments>),
    Embed(Box<embed::Arguments>),
    Data(Box<data::Arguments>),
    Export(export::Arguments),
    Quantize(Box<quantize::Arguments>),
    Merge(Box<merge::Arguments>),
    Tune(Box<tune::Arguments>),
    Create(create::Arguments),
    Lineage(lineage::Arguments),
    Bundle(Box<bundle::Arguments>),
    Unbundle(unbundle::Arguments),
    Trust(trust::Arguments),
    Serve(Box<serve::Arguments>),
    Keys(Box<keys::Arguments>),
    Ps(ps::Arguments),
    Stop(stop::Arguments),
    Config(Box<config::Arguments>),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// Runs a verb with the settings that hold everywhere.
pub fn run(verb: Verb, program: &Given) -> Result<(), Failure> {
    settings::known_kernels()?;
    fetch::remember(program);
    match verb {
        Verb::Chat(arguments) => chat::run(*arguments, program),
        Verb::Generate(arguments) => generate::run(*arguments, program),
        Verb::Tokenize(arguments) => tokenize::run(&arguments),
        Verb::Detokenize(arguments) => detokenize::run(&arguments),
        Verb::Template(arguments) => template::run(&arguments),
        Verb::Show(arguments) => show::run(&arguments, program),
        Verb::List(arguments) => list::run(&arguments),
        Verb::Pull(arguments) => pull::run(&arguments, program),
        Verb::Push(arguments) => push::run(&arguments, program),
        Verb::Search(arguments) => search::run(&arguments),
        Verb::Cp(arguments) => cp::run(&arguments, program),
        Verb::Rm(arguments) => rm::run(&arguments),
        Verb::Gc(arguments) => gc::run(&arguments),
        Verb::Verify(arguments) => verify::run(&arguments, program),
        Verb::Du(arguments) => du::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Logits(arguments) => logits::run(&arguments, program),
        Verb::Embed(arguments) => embed::run(&arguments, program),
        Verb::Data(arguments) => data::run(&arguments, program),
        Verb::Export(arguments) => export::run(&arguments, program),
        Verb::Quantize(arguments) => quantize::run(&arguments, program),
        Verb::Merge(arguments) => merge::run(&arguments, program),
        Verb::Tune(arguments) => tune::run(&arguments, program),
        Verb::Create(arguments) => create::run(&arguments, program),
        Verb::Lineage(arguments) => lineage::run(&arguments),
        Verb::Bundle(arguments) => bundle::run(&arguments, program),
        Verb::Unbundle(arguments) => unbundle::run(&arguments, program),
        Verb::Trust(arguments) => trust::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments, program),
        Verb::Plan(arguments) => plan::run(&arguments, program),
        Verb::Prepare(arguments) => prepare::run(&arguments, program),
        Verb::Eval(arguments) => eval::run(&arguments, program),
        Verb::Compare(arguments) => compare::run(&arguments, program),
        Verb::Serve(arguments) => serve::run(*arguments, program),
        Verb::Keys(arguments) => keys::run(&arguments),
        Verb::Ps(arguments) => ps::run(&arguments),
        Verb::Stop(arguments) => stop::run(&arguments),
        Verb::Config(arguments) => config::run(&arguments, program),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Completions(arguments) => completions::run(&arguments),
        Verb::Man(arguments) => man::run(&arguments),
    }
}
