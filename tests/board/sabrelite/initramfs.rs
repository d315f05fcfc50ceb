//! A root file system that a kernel unpacks into memory: a cpio archive of the kind "newc", uncompressed.
//!
//! It knows the archive's format (the kernel's `driver-api/early-userspace/buffer-format`) and nothing of what is in it.
//! Invariant: a folder stands before what is in it, for the kernel makes none by itself.

use std::collections::BTreeSet;

const FOLDER: u32 = 0o04_0755;
const FILE: u32 = 0o10_0000;

/// An archive that grows.
#[derive(Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Initramfs {
    /// Adds an empty folder, with those above it.
    pub fn folder(&mut self, path: &str) {
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            if self.folders.insert(path[..end].to_owned()) {
                self.entry(&path[..end], FOLDER, &[]);
            }
        }
    }

    /// Adds a file, with the folders above it.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.entry(path, FILE | permissions, content);
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a small file");
        let name_size = u32::try_from(path.len() + 1).expect("a short path");
        // Number, mode, user, group, links, time, size, two device numbers of two parts each, the name's size, no check sum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
