//! A server's scratch folder: made for it alone, and removed after it.
//!
//! On Linux the process that will remove the folder holds a lock (`flock`) on it. A folder that nobody has locked was
//! left by a reaper that was killed together with its proxy, and the next proxy to start removes it. The lock is on the
//! folder itself, because systemd-tmpfiles does not clean up folders that are locked in this way.

use std::fs;
use std::io;
use std::path::Path;

#[cfg(target_os = "linux")]
pub(super) use abandoned::remove_abandoned;

/// How often a new folder is made again if another proxy removes it as abandoned before it is locked.
#[cfg(target_os = "linux")]
const ATTEMPTS: u32 = 16;

/// The lock of a scratch folder. It must live until the folder has been removed.
#[derive(Debug)]
pub(super) struct FolderLock {
    #[cfg(target_os = "linux")]
    _folder: fs::File,
}

/// Makes the folder, readable by this user only. The folder must not exist yet, because all that is in it is removed
/// later.
pub(super) fn create(path: &Path) -> io::Result<FolderLock> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    if let Some(parent) = path.parent() {
        builder.recursive(true).create(parent)?;
    }
    builder.recursive(false);
    #[cfg(target_os = "linux")]
    for _ in 0..ATTEMPTS {
        builder.create(path)?;
        if let Some(folder) = abandoned::lock_new(path)? {
            return Ok(FolderLock { _folder: folder });
        }
    }
    #[cfg(target_os = "linux")]
    return Err(io::ErrorKind::ResourceBusy.into());
    #[cfg(not(target_os = "linux"))]
    builder.create(path).map(|()| FolderLock {})
}

/// Removes the folder and all in it, without following links. What cannot be removed stays.
pub(super) fn remove(path: &Path) {
    let Err(error) = fs::remove_dir_all(path) else { return };
    if error.kind() == io::ErrorKind::PermissionDenied {
        // Some tools (Go's module cache is one) leave folders that not even their owner may write to.
        make_writable(path);
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(unix)]
fn make_writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;

    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

#[cfg(not(unix))]
fn make_writable(_path: &Path) {}

#[cfg(target_os = "linux")]
mod abandoned {
    use std::fs::{self, File};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};
    use std::thread;

    use rustix::fs::{Mode, OFlags, open};
    use rustix::process::{Uid, geteuid};
    use uuid::Uuid;

    /// Opens and locks a folder that was just made; `None` if another proxy has removed it as abandoned.
    pub(super) fn lock_new(path: &Path) -> io::Result<Option<File>> {
        let folder = match open_folder(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            folder => folder?,
        };
        // Another proxy that holds the lock looks at an empty folder and lets go soon. On a file system without locks,
        // no proxy gets one, and folders that are left behind stay.
        let _ = folder.lock();
        Ok(is_still_at(&folder, path).then_some(folder))
    }

    /// The parent folders that were looked through: each is looked through once in the life of this process.
    static LOOKED_THROUGH: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

    /// Removes the scratch folders in `parent` whose locks nobody holds, on a thread of its own: they may be large.
    pub(in super::super) fn remove_abandoned(parent: &Path) {
        let mut looked_through = LOOKED_THROUGH.lock().unwrap_or_else(PoisonError::into_inner);
        if looked_through.iter().any(|before| before == parent) {
            return;
        }
        looked_through.push(parent.to_owned());
        drop(looked_through);
        let parent = parent.to_owned();
        let thread = thread::Builder::new().name("scratch".to_owned()).spawn(move || {
            let count = remove_unlocked(&parent, geteuid());
            if count > 0 {
                tracing::info!(count, parent = %parent.display(), "removed scratch folders that a killed proxy left");
            }
        });
        if let Err(error) = thread {
            tracing::warn!(%error, "scratch folders that a killed proxy may have left are not looked for");
        }
    }

    /// Removes this user's scratch folders in `parent` whose locks nobody holds, and returns how many there were.
    ///
    /// The folder's owner and the lock are checked because, in a temporary folder that all users share, anybody can put
    /// a folder or a link under such a name.
    fn remove_unlocked(parent: &Path, user: Uid) -> usize {
        let mut removed = 0;
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(is_scratch_name) {
                continue;
            }
            let path = entry.path();
            let Ok(folder) = open_folder(&path) else { continue };
            let own = folder.metadata().is_ok_and(|about| about.uid() == user.as_raw());
            // Another proxy that starts at this moment may have removed the folder before it could be locked here.
            if own && folder.try_lock().is_ok() && is_still_at(&folder, &path) {
                empty(&folder);
                removed += usize::from(fs::remove_dir(&path).is_ok());
            }
        }
        removed
    }

    /// Removes all that is in a folder, through its descriptor and not by its path: other users who may write to the
    /// parent folder could put another folder in its place meanwhile.
    fn empty(folder: &File) {
        let _ = folder.set_permissions(fs::Permissions::from_mode(0o700));
        let folder = format!("/proc/self/fd/{}", folder.as_raw_fd());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                super::remove(&entry.path());
            } else {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Whether a session's folder may have this name: `sessile-` and the session id, and the number of its server if
    /// that is not the first.
    fn is_scratch_name(name: &str) -> bool {
        let Some((id, rest)) = name.strip_prefix("sessile-").and_then(|name| name.split_at_checked(36)) else {
            return false;
        };
        let number = rest.strip_prefix('.').is_some_and(|number| number.parse::<u16>().is_ok());
        Uuid::try_parse(id).is_ok() && (rest.is_empty() || number)
    }

    fn open_folder(path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(open(path, flags, Mode::empty())?.into())
    }

    /// Whether this folder is still the one at the path, and was not removed or replaced.
    fn is_still_at(folder: &File, path: &Path) -> bool {
        let identity = |about: fs::Metadata| (about.dev(), about.ino());
        let (held, found) = (folder.metadata().map(identity), fs::symlink_metadata(path).map(identity));
        matches!((held, found), (Ok(held), Ok(found)) if held == found)
    }

    #[cfg(test)]
    mod tests {
        use std::os::unix::fs::symlink;
        use std::sync::atomic::{AtomicBool, Ordering};

        use super::super::create;
        use super::*;

        fn name() -> String {
            format!("sessile-{}", Uuid::new_v4())
        }

        #[test]
        fn knows_the_names_of_scratch_folders() {
            let name = name();
            for good in [name.clone(), format!("{name}.1"), format!("{name}.255")] {
                assert!(is_scratch_name(&good), "{good}");
            }
            let simple = format!("sessile-{}", Uuid::new_v4().simple());
            for bad in ["sessile-", "sessile-e2e-x", "other", &name[8..], &name[..43], &format!("{name}."), &simple] {
                assert!(!is_scratch_name(bad), "{bad}");
            }
            assert!(!is_scratch_name(&format!("{name}.x")) && !is_scratch_name(&format!("{name}-1")));
        }

        #[test]
        fn only_folders_of_this_user_that_nobody_holds_are_removed() {
            let base = tempfile::tempdir().unwrap();
            let at = |name: &str| base.path().join(name);
            let (left, second, held) = (name(), format!("{}.1", name()), name());
            for name in [&left, &second] {
                drop(create(&at(name)).unwrap());
                fs::write(at(name).join("file"), "x").unwrap();
            }
            // A server may have changed this.
            fs::set_permissions(at(&left), fs::Permissions::from_mode(0o500)).unwrap();
            let lock = create(&at(&held)).unwrap();

            let (link, file, other) = (name(), name(), "sessile-e2e".to_owned());
            let target = tempfile::tempdir().unwrap();
            fs::write(target.path().join("kept"), "x").unwrap();
            symlink(target.path(), at(&link)).unwrap();
            fs::write(at(&file), "x").unwrap();
            fs::create_dir(at(&other)).unwrap();

            let somebody_else = Uid::from_raw(geteuid().as_raw() + 1);
            assert_eq!(remove_unlocked(base.path(), somebody_else), 0, "they are another user's");
            assert!(at(&left).exists() && at(&second).exists());

            assert_eq!(remove_unlocked(base.path(), geteuid()), 2);
            assert!(!at(&left).exists() && !at(&second).exists());
            for kept in [&held, &link, &file, &other] {
                assert!(at(kept).symlink_metadata().is_ok(), "{kept}");
            }
            assert!(target.path().join("kept").exists());

            drop(lock);
            assert_eq!(remove_unlocked(base.path(), geteuid()), 1);
            assert!(!at(&held).exists());
        }

        #[test]
        fn a_folder_is_emptied_and_not_what_has_taken_its_place() {
            let base = tempfile::tempdir().unwrap();
            let (path, aside, kept) = (base.path().join("a"), base.path().join("b"), tempfile::tempdir().unwrap());
            fs::create_dir_all(path.join("folder/inner")).unwrap();
            fs::write(path.join("folder/file"), "x").unwrap();
            fs::write(kept.path().join("file"), "x").unwrap();
            symlink(kept.path(), path.join("link")).unwrap();
            let folder = open_folder(&path).unwrap();
            fs::rename(&path, &aside).unwrap();
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), "x").unwrap();
            assert!(!is_still_at(&folder, &path));

            empty(&folder);
            assert_eq!(fs::read_dir(&aside).unwrap().count(), 0);
            assert!(path.join("file").exists() && kept.path().join("file").exists());
        }

        #[test]
        fn a_folder_that_is_removed_before_it_is_locked_is_made_again() {
            let base = tempfile::tempdir().unwrap();
            let (base, path, stop) = (base.path(), base.path().join(name()), AtomicBool::new(false));
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            remove_unlocked(base, geteuid());
                        }
                    });
                }
                // The two scans may win against all attempts to lock a new folder: then there is no folder, which is an
                // error that the caller sees. What must never happen is that a folder is removed after it was locked.
                let mut made = 0;
                let outcome = (0..2000).try_for_each(|_| match create(&path) {
                    Ok(_lock) => {
                        made += 1;
                        fs::write(path.join("file"), "x")?;
                        fs::read(path.join("file"))?;
                        fs::remove_dir_all(&path)
                    }
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
                    Err(error) => Err(error),
                });
                stop.store(true, Ordering::Relaxed);
                outcome.unwrap();
                assert!(made > 0, "the scans took every new folder");
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_once_and_removed_without_following_links() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");

        let _lock = create(&path).unwrap();
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
