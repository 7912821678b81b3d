//! The other side in C, compiled here: layouts as a C compiler has them, and exchanges in both directions.

use crate::arrays::doubles;
use offheap::system_memory_pool;
use offheap_arrow::{
    ArrowArray, ArrowDeviceArray, ArrowDeviceArrayStream, ArrowSchema, DLDataType, DLDevice,
    DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor, ExportedArray,
    ExportedTensor, TensorExport, TensorLayout, import_device_array, import_tensor,
};
use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::offset_of;
use std::path::{Path, PathBuf};

unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// A library of C that stays loaded.
pub(crate) struct Peer(*mut c_void);

impl Peer {
    /// `None`, and why, without a C compiler.
    pub(crate) fn compile(name: &str, include: Option<&Path>) -> Option<Self> {
        let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.so"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/peer.c");
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let compiler = cc::Build::new()
            .cargo_metadata(false)
            .host(&host)
            .target(&host)
            .opt_level(1)
            .out_dir(env!("CARGO_TARGET_TMPDIR"))
            .try_get_compiler();
        let mut command = match compiler {
            Ok(compiler) => compiler.to_command(),
            Err(error) => {
                eprintln!("skipped: no C compiler ({error})");
                return None;
            }
        };
        command.args(["-std=c11", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]);
        command.arg(&library).arg(&source);
        if let Some(include) = include {
            command.arg("-DOFFICIAL_HEADERS").arg("-I").arg(include);
        }
        match command.output() {
            Ok(output) => assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => {
                eprintln!("skipped: no C compiler ({error})");
                return None;
            }
        }
        let path = CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: a library without initialisers; 2 is RTLD_NOW.
        let handle = unsafe { dlopen(path.as_ptr(), 2) };
        assert!(!handle.is_null());
        Some(Self(handle))
    }

    pub(crate) fn symbol(&self, name: &str) -> *mut c_void {
        let text = CString::new(name).unwrap();
        // SAFETY: an open library.
        let symbol = unsafe { dlsym(self.0, text.as_ptr()) };
        assert!(!symbol.is_null(), "{name}");
        symbol
    }

    fn layout(&self) -> &[usize] {
        // SAFETY: as `peer.c` defines them; the library stays loaded.
        unsafe {
            let count = *self.symbol("peer_layout_count").cast::<usize>();
            std::slice::from_raw_parts(self.symbol("peer_layout").cast(), count)
        }
    }
}

macro_rules! layout {
    ($($type:ty { $($member:ident),* })*) => {
        vec![$(size_of::<$type>(), $(offset_of!($type, $member),)*)*]
    };
}

fn ours() -> Vec<usize> {
    layout! {
        ArrowSchema { format, name, metadata, flags, n_children, children, dictionary, release, private_data }
        ArrowArray { length, null_count, offset, n_buffers, n_children, buffers, children, dictionary, release, private_data }
        ArrowDeviceArray { array, device_id, device_type, sync_event, reserved }
        ArrowDeviceArrayStream { device_type, get_schema, get_next, get_last_error, release, private_data }
        DLPackVersion { major, minor }
        DLDevice { device_type, device_id }
        DLDataType { code, bits, lanes }
        DLTensor { data, device, ndim, dtype, shape, strides, byte_offset }
        DLManagedTensor { dl_tensor, manager_ctx, deleter }
        DLManagedTensorVersioned { version, manager_ctx, deleter, flags, dl_tensor }
    }
}

/// pyarrow ships Arrow's own headers, and DLPack's.
fn official_headers() -> Option<PathBuf> {
    let python = std::env::var("OFFHEAP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = std::process::Command::new(&python)
        .args(["-c", "import pyarrow; print(pyarrow.get_include())"])
        .output();
    match output {
        Ok(output) if output.status.success() => Some(PathBuf::from(
            String::from_utf8(output.stdout).unwrap().trim(),
        )),
        _ => {
            eprintln!("skipped: {python} has no pyarrow (OFFHEAP_PYTHON names another)");
            None
        }
    }
}

#[test]
fn layouts_are_those_of_a_c_compiler() {
    if let Some(peer) = Peer::compile("peer_layouts", None) {
        assert_eq!(peer.layout(), ours());
    }
}

#[test]
fn layouts_are_those_of_arrows_own_headers() {
    let Some(include) = official_headers() else {
        return;
    };
    if let Some(peer) = Peer::compile("peer_official", Some(&include)) {
        assert_eq!(peer.layout(), ours());
        exchange(&peer);
    }
}

#[test]
fn c_consumes_what_we_export_and_makes_what_we_import() {
    if let Some(peer) = Peer::compile("peer_exchange", None) {
        exchange(&peer);
    }
}

fn exchange(peer: &Peer) {
    type SumArray = unsafe extern "C" fn(*mut ArrowDeviceArray, *mut ArrowSchema) -> f64;
    type SumTensor = unsafe extern "C" fn(*mut DLManagedTensorVersioned) -> f64;
    type MakeArray = unsafe extern "C" fn(i64, *mut ArrowDeviceArray, *mut ArrowSchema);
    type MakeTensor = unsafe extern "C" fn(i64) -> *mut DLManagedTensorVersioned;
    let pool = system_memory_pool().proxy();

    // SAFETY: the functions have these types in `peer.c`.
    let (sum_array, sum_tensor, make_array, make_tensor, released) = unsafe {
        (
            std::mem::transmute::<*mut c_void, SumArray>(peer.symbol("peer_sum_array")),
            std::mem::transmute::<*mut c_void, SumTensor>(peer.symbol("peer_sum_tensor")),
            std::mem::transmute::<*mut c_void, MakeArray>(peer.symbol("peer_make_array")),
            std::mem::transmute::<*mut c_void, MakeTensor>(peer.symbol("peer_make_tensor")),
            std::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(
                peer.symbol("peer_released"),
            ),
        )
    };

    let exported = ExportedArray::new(&doubles(&pool, 10), "g", 2, 8, None).unwrap();
    assert_eq!(pool.bytes_allocated(), 80);
    // SAFETY: structs of ours, which the function consumes.
    let sum = unsafe { sum_array(exported.array(), exported.schema()) };
    assert_eq!(sum, 44.0);
    assert_eq!(pool.bytes_allocated(), 0);
    assert!(exported.is_consumed());
    drop(exported);

    let layout = TensorLayout {
        data_type: DLDataType::FLOAT64,
        shape: vec![3, 2],
        // The columns of two rows.
        strides: Some(vec![1, 3]),
        byte_offset: 8,
    };
    let exported: ExportedTensor =
        ExportedTensor::new(doubles(&pool, 7), &layout, &TensorExport::default()).unwrap();
    // SAFETY: a tensor of ours, which the function consumes.
    let sum = unsafe { sum_tensor(exported.consume().unwrap().as_ptr()) };
    assert_eq!(sum, 21.0);
    assert_eq!(pool.bytes_allocated(), 0);

    let numbers: Vec<u8> = (0..5_i32).flat_map(i32::to_ne_bytes).collect();
    let (mut array, mut schema) = (ArrowDeviceArray::released(), ArrowSchema::released());
    // SAFETY: places for the structs, which the function fills.
    let imported = unsafe {
        make_array(5, &raw mut array, &raw mut schema);
        import_device_array(&raw mut array, &raw mut schema, None).unwrap()
    };
    assert_eq!(released(), 1);
    assert_eq!(&imported.buffer.as_cpu().unwrap()[..], numbers);
    drop(imported);
    assert_eq!(released(), 2);

    // SAFETY: a tensor that nobody else has.
    let imported = unsafe { import_tensor(make_tensor(5), None).unwrap() };
    assert_eq!(
        (imported.data_type, &imported.shape[..]),
        (DLDataType::INT32, &[5][..])
    );
    assert_eq!(&imported.buffer.as_cpu().unwrap()[..], numbers);
    assert_eq!(released(), 2);
    drop(imported);
    assert_eq!(released(), 3);
}
