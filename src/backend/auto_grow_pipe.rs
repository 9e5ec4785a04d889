//! Pipes that grow when a large message comes.
//!
//! A pipe holds 64 KiB, so a megabyte goes through it in sixteen pieces, and for each of them both sides are put to
//! sleep and woken. Pipes that never carry a large message stay small, because what all pipes of a user hold together
//! is bounded, and past that bound new pipes get only 8 KiB (`fs.pipe-user-pages-soft`).

/// The pipe, which grows when it is needed. Elsewhere than on Linux it stays as it is.
#[cfg(not(target_os = "linux"))]
pub(crate) fn auto_grow_pipe<P>(pipe: P) -> P {
    pipe
}

#[cfg(target_os = "linux")]
pub(crate) use linux::auto_grow_pipe;

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, IoSlice};
    use std::os::fd::AsFd;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use rustix::pipe::fcntl_setpipe_size;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    /// A read or write of so many bytes counts as a part of a large message.
    const LARGE_TRANSFER: usize = 32 * 1024;
    /// The size of a grown pipe, in bytes. With four times this, a large message takes only a tenth less time.
    const GROWN_PIPE: usize = 256 * 1024;

    /// The pipe, which grows when it is needed.
    pub(crate) fn auto_grow_pipe<P: AsFd>(pipe: P) -> AutoGrowPipe<P> {
        AutoGrowPipe { pipe, grown: false }
    }

    pub(crate) struct AutoGrowPipe<P> {
        pipe: P,
        grown: bool,
    }

    impl<P: AsFd> AutoGrowPipe<P> {
        fn grow_for(&mut self, size: usize) {
            if size >= LARGE_TRANSFER && !self.grown {
                // A pipe that may not grow, because the user's bound is reached, goes on working at its size.
                self.grown = true;
                let _ = fcntl_setpipe_size(&self.pipe, GROWN_PIPE);
            }
        }
    }

    impl<P: AsyncRead + AsFd + Unpin> AsyncRead for AutoGrowPipe<P> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.pipe).poll_read(context, buffer))?;
            self.grow_for(buffer.filled().len() - before);
            Poll::Ready(Ok(()))
        }
    }

    impl<P: AsyncWrite + AsFd + Unpin> AsyncWrite for AutoGrowPipe<P> {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.grow_for(bytes.len());
            Pin::new(&mut self.pipe).poll_write(context, bytes)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.grow_for(slices.iter().map(|slice| slice.len()).sum());
            Pin::new(&mut self.pipe).poll_write_vectored(context, slices)
        }

        fn is_write_vectored(&self) -> bool {
            self.pipe.is_write_vectored()
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.pipe).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.pipe).poll_shutdown(context)
        }
    }

    #[cfg(test)]
    mod tests {
        use rustix::pipe::fcntl_getpipe_size;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        use tokio::net::unix::pipe;

        use super::*;

        #[tokio::test]
        async fn grows_for_a_large_message_only() {
            let (sender, receiver) = pipe::pipe().unwrap();
            let usual = fcntl_getpipe_size(&receiver).unwrap();
            let (mut sender, mut receiver) = (auto_grow_pipe(sender), auto_grow_pipe(receiver));
            let mut buffer = vec![0; 300_000];
            sender.write_all(&buffer[..1000]).await.unwrap();
            receiver.read_exact(&mut buffer[..1000]).await.unwrap();
            assert_eq!(fcntl_getpipe_size(&receiver.pipe).unwrap(), usual);
            let message = vec![7; 300_000];
            let writing = tokio::spawn(async move { sender.write_all(&message).await });
            receiver.read_exact(&mut buffer).await.unwrap();
            writing.await.unwrap().unwrap();
            assert!(buffer.iter().all(|byte| *byte == 7));
            assert!(fcntl_getpipe_size(&receiver.pipe).unwrap() >= usual);
        }
    }
}
