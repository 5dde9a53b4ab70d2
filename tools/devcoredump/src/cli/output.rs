// SPDX-License-Identifier: GPL-2.0-only
//! Files that are written whole or not at all: what a file held before is there until all that
//! replaces it is.

use std::fs::{
    self,
    File,
    OpenOptions,
    Permissions, //
};
use std::io::{
    self,
    Write, //
};
use std::os::unix::fs::PermissionsExt;
use std::path::{
    Path,
    PathBuf, //
};
use tempfile::{
    Builder,
    NamedTempFile, //
};

/// A file to be. Until [`Output::finish`] it stands beside its place, without a name of its own.
pub enum Output {
    /// One that is replaced, or made.
    Whole(NamedTempFile, PathBuf),
    /// A device or a pipe: it isn't replaced, what is written goes to it.
    Direct(File),
}

impl Output {
    /// Begins one. A link stays, and what it points to is replaced.
    pub fn new(path: &Path) -> io::Result<Output> {
        let (path, old) = match OpenOptions::new().write(true).open(path) {
            Ok(old) => {
                let about = old.metadata()?;
                if !about.is_file() {
                    return Ok(Output::Direct(old));
                }
                (fs::canonicalize(path)?, Some(about.permissions()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
            Err(e) => return Err(e),
        };
        let parent = path.parent().filter(|parent| parent != &Path::new(""));
        let file = Builder::new()
            .prefix(".msm-devcoredump-")
            // The user's umask has its say.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(parent.unwrap_or(Path::new(".")))?;
        if let Some(permissions) = old {
            file.as_file().set_permissions(permissions)?;
        }
        Ok(Output::Whole(file, path))
    }

    /// Gives it its name.
    pub fn finish(self) -> io::Result<()> {
        if let Output::Whole(file, path) = self {
            file.as_file().sync_all()?;
            file.persist(path)?;
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Whole(file, _) => file.write(bytes),
            Output::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Whole(file, _) => file.flush(),
            Output::Direct(file) => file.flush(),
        }
    }
}
