//! Programs under test: started on a host, logged to a file, killed with their owner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::{env, io};

use anyhow::{Context, Result, bail};

use rustix::process::{Pid, Signal, kill_process};

use crate::namespace::Host;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    /// Starts `program` on a host with `home` as its home and working folder; its output goes to a file in there.
    pub fn start(
        host: &Host,
        home: &Path,
        program: &Path,
        configure: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        Self::start_with(&["--"], host, home, program, configure)
    }

    /// The same as the user `nobody`, for a program that refuses to run as root.
    pub fn start_as_nobody(
        host: &Host,
        home: &Path,
        program: &Path,
        configure: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let nobody = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"];
        Self::start_with(&nobody, host, home, program, configure)
    }

    /// The same with `names` in the place of `/etc/hosts`, for a program that can't be told of any other hosts than
    /// those that it knows by name.
    pub fn start_with_names(
        names: &Path,
        host: &Host,
        home: &Path,
        program: &Path,
        configure: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let names = names.to_str().context("the tests' own paths are UTF-8")?;
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let within = ["--", "unshare", "--mount", "--", "sh", "-c", script, names];
        Self::start_with(&within, host, home, program, configure)
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to end.
    pub fn terminate(&self) -> Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no number of a process")?;
        kill_process(pid, Signal::TERM).with_context(|| format!("cannot end {}", self.name))
    }

    /// Fails if it has ended, which a program that serves must not do by itself.
    pub fn expect_running(&mut self) -> Result<()> {
        match self.exit_status()? {
            Some(status) => bail!("{} ended by itself: {status}", self.name),
            None => Ok(()),
        }
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Its name and the end of what it printed, for the report of a failure.
    pub fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<_> = output.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        format!(
            "--- {} ({} lines, {})\n{}\n",
            self.name,
            lines.len(),
            self.log.display(),
            lines[from..].join("\n")
        )
    }

    /// `before` stands between `setpriv`'s own first option and the program.
    fn start_with(
        before: &[&str],
        host: &Host,
        home: &Path,
        program: &Path,
        configure: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let log = home.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // The kernel kills it with the thread that started it, even if the tests die without running destructors.
        let mut command = Command::new(tool("setpriv")?);
        command.args(["--pdeathsig", "KILL"]).args(before).arg(program);
        for variable in PERSONAL {
            command.env_remove(variable);
        }
        command.env("HOME", home).env("NO_COLOR", "1").current_dir(home);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        configure(&mut command);
        let child = host.within(|| command.spawn())?.with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, log, name })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program lies that `tests/peers/install` should have installed.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found = env::split_paths(&path).map(|folder| folder.join(name)).filter(|file| file.is_file());
    found.next().with_context(|| format!("{name} is not installed: run tests/peers/install"))
}

/// The folder of the build's profile (`target/debug`), beside whose `deps` the tests lie.
pub fn profile_folder() -> Result<PathBuf> {
    let test = env::current_exe()?;
    let folder = test.parent().and_then(Path::parent);
    Ok(folder.with_context(|| format!("{} is in no target folder", test.display()))?.to_owned())
}

/// The target folder.
pub fn target_folder() -> Result<PathBuf> {
    let profile = profile_folder()?;
    Ok(profile.parent().with_context(|| format!("{} is in no target folder", profile.display()))?.to_owned())
}

/// Variables through which the user's own settings would reach a client.
const PERSONAL: [&str; 5] =
    ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TRANSMISSION_HOME"];
const TAIL_LINES: usize = 60;
