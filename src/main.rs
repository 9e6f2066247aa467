use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(haclusterd::cli::main())
}
