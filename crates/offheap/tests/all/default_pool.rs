//! The process's default pool: Arrow's case 101, and a default that always fails.

use crate::alone::alone;
use crate::refusing::Refusing;
use offheap::buffer::{allocate_bitmap, allocate_empty_bitmap};
use offheap::{
    Alignment, BitmapBuilder, Buffer, BufferBuilder, BufferOutputStream, BufferReader,
    FixedSizeBufferWriter, MutableBuffer, Pool, ResizableBuffer, TypedBufferBuilder, UninitBuffer,
    default_memory_pool, set_default_memory_pool, system_memory_pool,
};

/// Case 101: another default serves what comes later; what exists stays with its pool.
#[test]
fn case_101_set_default() {
    alone("default_pool::case_101_set_default", || {
        let old = default_memory_pool();
        let before = MutableBuffer::zeroed(100, &default_memory_pool()).unwrap();
        let proxy = old.proxy_named(Some("replacement"));
        set_default_memory_pool(&proxy).unwrap();
        assert_eq!(default_memory_pool(), proxy);
        let during = MutableBuffer::zeroed(1000, &default_memory_pool()).unwrap();
        assert_eq!(
            (proxy.bytes_allocated(), old.bytes_allocated()),
            (1000, 1100)
        );
        assert_eq!(before.pool(), Some(&old));
        // The default cannot be closed, and a closed pool cannot become the default.
        assert_eq!(
            proxy.close().unwrap_err().code(),
            "ERR_OFFHEAP_INVALID_ARGUMENT"
        );
        let closed = old.limit(10);
        closed.close().unwrap();
        let error = set_default_memory_pool(&closed).unwrap_err();
        assert_eq!(error.code(), "ERR_OFFHEAP_CLOSED");
        assert_eq!(default_memory_pool(), proxy);
        set_default_memory_pool(&old).unwrap();
        assert_eq!(default_memory_pool(), old);
        assert!(proxy.close().is_ok());
        drop((before, during));
        assert_eq!((proxy.bytes_allocated(), old.bytes_allocated()), (0, 0));
    });
}

/// Threads that read the default while it is replaced get one or the other, never a dead one.
#[test]
fn the_default_can_be_replaced_while_others_use_it() {
    let name = "default_pool::the_default_can_be_replaced_while_others_use_it";
    alone(name, || {
        let old = default_memory_pool();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        let buffer = MutableBuffer::zeroed(64, &default_memory_pool()).unwrap();
                        assert_eq!(buffer.pool().unwrap().backend_name(), old.backend_name());
                    }
                });
            }
            for _ in 0..500 {
                set_default_memory_pool(&old.limit(1 << 20)).unwrap();
                set_default_memory_pool(&old).unwrap();
            }
        });
        assert_eq!(old.bytes_allocated(), 0);
    });
}

/// With a default that refuses everything, every call that is given another pool works, and none
/// asks the default.
#[test]
fn a_default_that_always_fails_is_never_asked() {
    alone(
        "default_pool::a_default_that_always_fails_is_never_asked",
        || {
            let refusing = Pool::custom(Refusing);
            set_default_memory_pool(&refusing).unwrap();
            assert!(MutableBuffer::zeroed(1, &default_memory_pool()).is_err());
            let pool = system_memory_pool().proxy();
            let alignment = Alignment::new(512).unwrap();

            // Buffers.
            let mut mutable = MutableBuffer::zeroed(100, &pool).unwrap();
            MutableBuffer::zeroed_aligned(100, alignment, &pool).unwrap();
            mutable.copy_from_slice(&[1; 100]);
            let buffer = mutable.freeze();
            MutableBuffer::copy_from(&buffer, &pool).unwrap();
            Buffer::copy_from(&buffer, &pool).unwrap();
            Buffer::concat(&[&buffer, &buffer], &pool).unwrap();
            buffer.copy_slice(3, 50, &pool).unwrap();
            let slice = buffer.slice(1, 50).unwrap();
            slice.ensure_alignment(alignment, &pool).unwrap();
            UninitBuffer::allocate(100, alignment, &pool)
                .unwrap()
                .fill(1);
            let mut resizable = ResizableBuffer::zeroed(100, &pool).unwrap();
            resizable.resize(10_000, true).unwrap();
            resizable.reserve(20_000).unwrap();
            resizable.resize(5, true).unwrap();
            ResizableBuffer::with_capacity(100, alignment, &pool).unwrap();
            let foreign = Buffer::from_owner(vec![1_u8; 100]).unwrap();
            foreign
                .slice(50, 50)
                .unwrap()
                .try_into_mutable()
                .unwrap_err();
            allocate_bitmap(100, &pool).unwrap();
            allocate_empty_bitmap(100, &pool).unwrap();

            // Builders, from nothing to finished and once more.
            let mut bytes = BufferBuilder::from(resizable);
            for _ in 0..2 {
                bytes.append(&[1; 1000]).unwrap();
                bytes.append_copies(2, 1000).unwrap();
                bytes.advance(1000).unwrap();
                bytes.reserve(100_000).unwrap();
                bytes.finish(true).unwrap();
            }
            bytes.finish(true).unwrap();
            let mut typed = TypedBufferBuilder::<f64>::with_alignment(alignment, &pool);
            typed.append_iter((0..1000).map(f64::from)).unwrap();
            typed.finish_with_length(10, true).unwrap();
            let mut bits = BitmapBuilder::new(&pool);
            bits.append_values(&[true; 1000]).unwrap();
            bits.finish(true).unwrap();

            // Input and output.
            let mut stream = BufferOutputStream::create(0, &pool).unwrap();
            stream.write(&[1; 1000]).unwrap();
            let written = stream.finish(true).unwrap();
            stream.reset(100).unwrap();
            let mut writer = FixedSizeBufferWriter::new(written);
            writer.write(&[2; 1000]).unwrap();
            let mut reader = BufferReader::new(writer.into_inner().freeze());
            reader.read(500).unwrap();
            reader.stream(0, 10).unwrap();

            // Adaptors.
            pool.limit(1000)
                .proxy()
                .limit(10)
                .allocate(0, alignment)
                .unwrap();

            drop((buffer, slice, foreign, bytes, typed, bits, stream, reader));
            assert_eq!(pool.bytes_allocated(), 0);
            let now = refusing.statistics();
            assert_eq!((now.num_allocations, now.live_allocations), (0, 0));
        },
    );
}
