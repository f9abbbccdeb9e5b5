package smgw.host;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Set;
import smgw.applet.Keeper;

/** The card's memory as a file (mode 0600) that is replaced whole: after a crash it holds the old image or the new one. */
public final class StateFile implements Keeper {
    private static final FileAttribute<Set<PosixFilePermission>> PRIVATE =
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"));

    private final Path path;
    private final Path next;
    private final FileChannel lock;

    /**
     * Takes the file over for this process.
     *
     * @throws IOException another process has it, or its folder cannot be used
     */
    public StateFile(Path path) throws IOException {
        this.path = path.toAbsolutePath();
        next = this.path.resolveSibling(this.path.getFileName() + ".new");
        lock = FileChannel.open(
                this.path.resolveSibling(this.path.getFileName() + ".lock"),
                Set.of(StandardOpenOption.CREATE, StandardOpenOption.WRITE), PRIVATE);
        try {
            if (lock.tryLock() == null) {
                throw new IOException("another process uses this card");
            }
        } catch (OverlappingFileLockException error) {
            throw new IOException("this process uses the card already", error);
        }
    }

    /** True if there is a card. */
    public boolean exists() {
        return Files.exists(path);
    }

    /** Reads the image. */
    public byte[] load() throws IOException {
        return Files.readAllBytes(path);
    }

    @Override
    public boolean keep(byte[] image) {
        try {
            Files.deleteIfExists(next);
            try (FileChannel file =
                    FileChannel.open(next, Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE), PRIVATE)) {
                for (ByteBuffer rest = ByteBuffer.wrap(image); rest.hasRemaining(); ) {
                    file.write(rest);
                }
                file.force(true);
            }
            Files.move(next, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
            try (FileChannel folder = FileChannel.open(path.getParent(), StandardOpenOption.READ)) {
                folder.force(true);
            }
            return true;
        } catch (IOException error) {
            System.err.println("applet host: the card's state was not stored: " + error.getClass().getSimpleName());
            return false;
        }
    }

    /** Lets another process have the file. */
    public void close() throws IOException {
        lock.close();
    }
}
