package smgw.host;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import jdk.net.ExtendedSocketOptions;

/**
 * The card's end of one vpcd connection: frames of a 16-bit length and that many bytes; a frame of one byte is a command of the reader
 * (power off, power on, reset: no answer; ATR: answered), any other an APDU.
 */
public final class Vpcd {
    private static final int OFF = 0;
    private static final int ON = 1;
    private static final int RESET = 2;
    private static final int GET_ATR = 4;

    private final Socket socket;
    private final InputStream in;
    private final OutputStream out;
    private final boolean quickAck;

    /** Takes a connected socket over. */
    public Vpcd(Socket socket) throws IOException {
        this.socket = socket;
        socket.setTcpNoDelay(true);
        in = socket.getInputStream();
        out = socket.getOutputStream();
        quickAck = socket.supportedOptions().contains(ExtendedSocketOptions.TCP_QUICKACK);
    }

    /** Serves the card until the other end goes away; the card is then without power. */
    public void serve(SimulatedCard card) throws IOException {
        try {
            while (true) {
                byte[] prefix = read(2);
                byte[] frame = read((prefix[0] & 0xFF) << 8 | prefix[1] & 0xFF);
                if (frame.length == 1) {
                    control(frame[0], card);
                } else if (frame.length > 1) {
                    write(card.apdu(frame));
                }
            }
        } catch (EOFException gone) {
            // How a connection ends.
        } finally {
            card.off();
        }
    }

    private void control(byte what, SimulatedCard card) throws IOException {
        switch (what) {
            case OFF:
                card.off();
                break;
            case ON:
            case RESET:
                card.reset();
                break;
            case GET_ATR:
                write(card.atr());
                break;
            default:
                break;
        }
    }

    /** The kernel leaves the quick mode again by itself; vpcd sends length and payload apart, so that a late ACK costs 40 ms. */
    private byte[] read(int count) throws IOException {
        byte[] data = new byte[count];
        for (int at = 0; at < count; ) {
            if (quickAck) {
                socket.setOption(ExtendedSocketOptions.TCP_QUICKACK, true);
            }
            int got = in.read(data, at, count - at);
            if (got < 0) {
                throw new EOFException();
            }
            at += got;
        }
        return data;
    }

    private void write(byte[] data) throws IOException {
        byte[] frame = new byte[data.length + 2];
        frame[0] = (byte) (data.length >> 8);
        frame[1] = (byte) data.length;
        System.arraycopy(data, 0, frame, 2, data.length);
        out.write(frame);
        out.flush();
    }
}
