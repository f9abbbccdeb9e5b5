package smgw.applet;

/**
 * Makes the image of the non-volatile memory durable.
 *
 * <p>A card's memory is durable by itself; in a simulator the host stores the image before the response leaves.
 */
public interface Keeper {
    /**
     * Stores the whole image, all of it or nothing.
     *
     * @param image the memory, its check sum already right
     * @return false if it could not be stored; what is on the medium is then the image before this one
     */
    boolean keep(byte[] image);
}
