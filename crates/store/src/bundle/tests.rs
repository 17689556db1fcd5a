//! Bundles of small made-up works: the same bytes each time, every flipped byte refused, names that lead elsewhere refused,
//! runs that go on.

#[cfg(test)]
mod cases {
    use std::fs;
    use std::path::PathBuf;

    use serde_json::json;

    use super::super::*;
    use crate::Content;
    use crate::lineage::{Lineage, Work as Made};
    use crate::trust::{Keys, Signer};

    struct Place {
        root: tempfile::TempDir,
        keys: Keys,
    }

    impl Place {
        fn new() -> Place {
            let root = tempfile::tempdir().unwrap();
            let keys = Keys::at(&root.path().join("data"));
            keys.init().unwrap();
            Place { root, keys }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn signer(&self) -> Signer {
            self.keys.own().unwrap().unwrap()
        }

        fn pack(&self, name: &str, works: Vec<Gathered>) -> PathBuf {
            let path = self.path(name);
            pack(&path, "two", works, Some(&self.signer()), &mut |_, _| {}).unwrap();
            path
        }
    }

    fn work(name: &str, files: &[(&str, &[u8])]) -> Gathered {
        let made = Made { name: name.into(), digest: None, origin: None, licences: vec!["mit".into()], step: None };
        let lineage = Lineage::root(made);
        let terms = collect::terms(&lineage);
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), Content::Bytes(bytes.to_vec()))).collect();
        Gathered { work: Work { name: name.into(), kind: Kind::Model, file: None, lineage, terms }, files }
    }

    fn two() -> Vec<Gathered> {
        let long: Vec<u8> = (0..1000_u32).map(|at| (at * 7 % 251) as u8).collect();
        vec![work("one", &[("a.bin", &long), ("b.txt", b"words"), ("inner/c", b"")]), work("other", &[("a.bin", b"x")])]
    }

    #[test]
    fn the_same_works_give_the_same_bytes_and_come_back() {
        let place = Place::new();
        let (first, second) = (place.pack("1.pasture", two()), place.pack("2.pasture", two()));
        assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
        let bundle = Bundle::open(&first).unwrap();
        assert_eq!(bundle.signer(&place.keys).unwrap(), "own");
        bundle.verify(&mut |_, _| {}).unwrap();
        assert!(is_bundle(&first));
        for piece in &bundle.manifest.pieces {
            assert_eq!(piece.offset % ALIGNMENT, 0, "{piece:?}");
        }
        let found = bundle.unpack(&place.path("out"), &mut |_, _| {}).unwrap();
        assert_eq!(found.iter().map(|work| work.name.as_str()).collect::<Vec<_>>(), ["one", "other"]);
        assert_eq!(fs::read(place.path("out/one/b.txt")).unwrap(), b"words");
        assert_eq!(fs::read(place.path("out/one/inner/c")).unwrap(), b"");
        bundle.compare(&place.path("out")).unwrap();
        let again = bundle.unpack(&place.path("out"), &mut |_, _| {}).unwrap();
        assert!(again.iter().all(|work| work.was_there));
    }

    #[test]
    fn a_work_that_was_unpacked_has_a_name() {
        let place = Place::new();
        let root = place.root.path().to_owned();
        let environment =
            crate::Environment::of(|name| (name == "PASTURE_HOME").then(|| root.join("data").into()), None);
        let bundle = Bundle::open(&place.pack("1.pasture", two())).unwrap();
        bundle.unpack_named(&environment, &mut |_, _| {}).unwrap();
        assert_eq!(names(&environment), ["one", "other"]);
        let found = crate::resolve_in(&environment, "one").unwrap();
        assert_eq!((found.origin, found.path), (crate::Origin::Bundle, place.path("data/works/one")));
        assert!(crate::list_in(&environment).unwrap().iter().any(|found| found.name == "other"));
        // What a run that was interrupted left, and a removal.
        for left in ["one.partial", ".one.1.removing"] {
            let folder = place.path("data/works").join(left);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(place.path("data/works/one/.bundle"), folder.join(".bundle")).unwrap();
        }
        assert_eq!(names(&environment), ["one", "other"]);
        for name in ["two", "../works/one", "one.partial", ".one.1.removing", ""] {
            assert_eq!(find(&environment, name), None, "{name:?}");
        }
    }

    #[test]
    fn every_byte_of_a_bundle_is_checked() {
        let place = Place::new();
        let path = place.pack("1.pasture", two());
        let whole = fs::read(&path).unwrap();
        let bent = place.path("bent.pasture");
        for at in (0..whole.len()).step_by(5).chain(0..200) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&bent, &bytes).unwrap();
            let fault = Bundle::open(&bent).and_then(|bundle| {
                bundle.signer(&place.keys)?;
                bundle.verify(&mut |_, _| {})
            });
            let fault = fault.expect_err(&format!("byte {at}")).to_string();
            assert!(fault.contains("bent.pasture"), "byte {at}: {fault}");
        }
        for length in [0, 1, 63, 64, 200, whole.len() - 1] {
            fs::write(&bent, &whole[..length]).unwrap();
            assert!(Bundle::open(&bent).is_err(), "{length} bytes");
        }
        fs::write(&bent, [&whole[..], b"x"].concat()).unwrap();
        assert!(Bundle::open(&bent).is_err());
    }

    #[test]
    fn a_piece_that_was_changed_is_named() {
        let place = Place::new();
        let path = place.pack("1.pasture", two());
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(5).rposition(|part| part == b"words").unwrap();
        bytes[at] = b'W';
        fs::write(&path, bytes).unwrap();
        let bundle = Bundle::open(&path).unwrap();
        let fault = bundle.verify(&mut |_, _| {}).unwrap_err().to_string();
        assert!(fault.contains("piece \"one/b.txt\""), "{fault}");
        let fault = bundle.unpack(&place.path("out"), &mut |_, _| {}).unwrap_err().to_string();
        assert!(fault.contains("piece \"one/b.txt\""), "{fault}");
        assert!(!place.path("out/one").exists());
    }

    #[test]
    fn a_key_that_is_not_trusted_is_named_and_can_be_trusted() {
        let (place, other) = (Place::new(), Place::new());
        let path = place.pack("1.pasture", two());
        let bundle = Bundle::open(&path).unwrap();
        let key = place.signer().public();
        let fault = bundle.signer(&other.keys).unwrap_err().to_string();
        assert!(fault.contains(&key.to_string()) && fault.contains("not trusted"), "{fault}");
        other.keys.add("ann", key).unwrap();
        assert_eq!(bundle.signer(&other.keys).unwrap(), "ann");
        let unsigned = place.path("unsigned.pasture");
        pack(&unsigned, "two", two(), None, &mut |_, _| {}).unwrap();
        let bundle = Bundle::open(&unsigned).unwrap();
        assert!(bundle.signer(&place.keys).unwrap_err().to_string().contains("nobody signed it"));
    }

    #[test]
    fn a_run_that_was_interrupted_goes_on_and_a_taken_folder_stays() {
        let place = Place::new();
        let bundle = Bundle::open(&place.pack("1.pasture", two())).unwrap();
        let out = place.path("out");
        // As a killed run leaves it: one piece right, one cut, a temporary file.
        fs::create_dir_all(out.join("one.partial")).unwrap();
        fs::write(out.join("one.partial/.bundle"), format!("{}\n", bundle.digest)).unwrap();
        fs::write(out.join("one.partial/b.txt"), b"words").unwrap();
        fs::write(out.join("one.partial/a.bin"), b"half").unwrap();
        fs::write(out.join("one.partial/.a.bin.1.0.part"), b"half").unwrap();
        let kept = fs::metadata(out.join("one.partial/b.txt")).unwrap().modified().unwrap();
        bundle.unpack(&out, &mut |_, _| {}).unwrap();
        bundle.compare(&out).unwrap();
        assert!(!out.join("one/.a.bin.1.0.part").exists());
        assert_eq!(fs::metadata(out.join("one/b.txt")).unwrap().modified().unwrap(), kept);
        let mut changed = two();
        changed[1].files[0].1 = Content::Bytes(b"y".to_vec());
        let other = Bundle::open(&place.pack("2.pasture", changed)).unwrap();
        let fault = other.unpack(&out, &mut |_, _| {}).unwrap_err().to_string();
        assert!(fault.contains("one") && fault.contains("not from this bundle"), "{fault}");
        assert_eq!(fs::read(out.join("other/a.bin")).unwrap(), b"x");
    }

    /// A bundle whose manifest says what no writer of ours would.
    fn forged(place: &Place, change: impl FnOnce(&mut serde_json::Value)) -> Result<Bundle> {
        let path = place.pack("forged.pasture", two());
        let bytes = fs::read(&path).unwrap();
        let length = usize::try_from(u64::from_le_bytes(bytes[16..24].try_into().unwrap())).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_slice(&bytes[64..64 + length]).unwrap();
        change(&mut manifest);
        let text = serde_json::to_vec(&manifest).unwrap();
        let pieces = &bytes[usize::try_from(start(length as u64).unwrap()).unwrap()..];
        let begin = start(text.len() as u64).unwrap();
        let head = pack::head(text.len() as u64, begin + pieces.len() as u64);
        let signer = place.signer();
        let mut made = [&head[..], &text].concat();
        let signature = signer.sign(&made);
        made.resize(usize::try_from(begin).unwrap() - SIGNATURE_BYTES, 0);
        made.extend(signer.public().0);
        made.extend(signature);
        made.extend([0; 32]);
        made.extend(pieces);
        fs::write(&path, made).unwrap();
        Bundle::open(&path)
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_whoever_signed_them() {
        let place = Place::new();
        forged(&place, |_| ()).unwrap();
        let long = "a".repeat(300);
        let bad = [
            "",
            ".",
            "..",
            "/etc/passwd",
            "../a",
            "../../a",
            "a\\b",
            "C:a",
            "\\\\host\\share",
            "~/a",
            "a\nb",
            "a\0",
            "%2e%2e%2fa",
            "．．",
            "http://host/a",
            "CON",
            "nul.txt",
            ".hidden",
            &long,
        ];
        for name in bad {
            let fault = forged(&place, |manifest| manifest["pieces"][0]["path"] = json!(format!("one/{name}")));
            assert!(fault.is_err(), "{name:?}");
            let fault = forged(&place, |manifest| {
                manifest["works"][1]["name"] = json!(name);
                manifest["pieces"][3]["path"] = json!(format!("{name}/a.bin"));
            });
            assert!(fault.is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_manifest_that_does_not_fit_is_refused() {
        let place = Place::new();
        let cases: [fn(&mut serde_json::Value); 10] = [
            |manifest| manifest["bundle"] = json!(2),
            |manifest| manifest["works"] = json!([]),
            |manifest| manifest["pieces"][1]["path"] = json!("one/A.BIN"),
            |manifest| manifest["pieces"][1]["path"] = json!("nobody/b"),
            |manifest| manifest["pieces"][1]["offset"] = json!(64),
            |manifest| manifest["pieces"][0]["bytes"] = json!(u64::MAX),
            |manifest| manifest["pieces"][0]["sha256"] = json!("00"),
            |manifest| manifest["works"][0]["file"] = json!("absent.gguf"),
            |manifest| manifest["more"] = json!(1),
            |manifest| manifest["works"][0]["lineage"]["works"] = json!([]),
        ];
        for (at, change) in cases.into_iter().enumerate() {
            assert!(forged(&place, change).is_err(), "case {at}");
        }
    }
}
