//! A server's scratch folder: made for it alone, and removed after it.

use std::fs;
use std::io;
use std::path::Path;

/// Makes the folder, readable by this user only. It must not exist yet: what is removed later is only what was made.
pub(super) fn create(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    if let Some(parent) = path.parent() {
        builder.recursive(true).create(parent)?;
    }
    builder.recursive(false).create(path)
}

/// Removes the folder and all in it, without following links. What cannot be removed stays.
pub(super) fn remove(path: &Path) {
    let Err(error) = fs::remove_dir_all(path) else { return };
    if error.kind() == io::ErrorKind::PermissionDenied {
        // Some tools (Go's module cache is one) leave folders that not even their owner may write to.
        open_up(path);
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(unix)]
fn open_up(path: &Path) {
    use std::os::unix::fs::PermissionsExt;

    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(not(unix))]
fn open_up(_path: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_once_and_removed_without_following_links() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");

        create(&path).unwrap();
        assert_eq!(create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::create_dir(path.join("locked")).unwrap();
        fs::write(path.join("locked/file"), "x").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
            std::os::unix::fs::symlink(outside.path(), path.join("link")).unwrap();
            fs::set_permissions(path.join("locked"), fs::Permissions::from_mode(0o500)).unwrap();
        }

        remove(&path);
        assert!(!path.exists());
        assert!(outside.path().join("kept").exists());
    }
}
