package smgw.applet;

/**
 * INS, P1, P2, tags, references and sizes: the Java side of {@code hsm/profile.py}, which leads. Status words of ISO/IEC 7816-4 and
 * TR-03110-3 v2.2, B.14.
 */
interface Codings {
    byte CLA_PLAIN = 0x00;
    byte CLA_CHAIN = 0x10;
    byte CLA_SECURE = 0x0C;

    byte INS_SELECT = (byte) 0xA4;
    byte INS_READ_BINARY = (byte) 0xB0;
    byte INS_READ_BINARY_ODD = (byte) 0xB1;
    byte INS_UPDATE_BINARY = (byte) 0xD6;
    byte INS_GET_CHALLENGE = (byte) 0x84;
    byte INS_MSE = 0x22;
    byte INS_GENERAL_AUTHENTICATE = (byte) 0x86;
    byte INS_GENERATE_KEY_PAIR = 0x46;
    byte INS_PSO = 0x2A;
    byte INS_ACTIVATE = 0x44;
    byte INS_INCREASE = 0x32;
    byte INS_DELETE = (byte) 0xE4;
    byte INS_GET_RESPONSE = (byte) 0xC0;
    byte INS_ENVELOPE = (byte) 0xC2;
    byte INS_INTERNAL_AUTHENTICATE = (byte) 0x88;
    byte INS_EXTERNAL_AUTHENTICATE = (byte) 0x82;
    byte INS_CHANGE_REFERENCE_DATA = 0x24;
    byte INS_RESET_RETRY_COUNTER = 0x2C;
    byte INS_DEACTIVATE = 0x04;
    byte INS_CREATE = (byte) 0xE0;
    byte INS_TERMINATE_APPLICATION = (byte) 0xE6;
    byte INS_TERMINATE_FILE = (byte) 0xE8;
    byte INS_TERMINATE_CARD = (byte) 0xFE;

    short P1P2_SELECT_NAME = 0x040C;
    short P1P2_SELECT_MASTER = 0x000C;
    short P1P2_SELECT_FILE = 0x020C;
    short P1P2_MSE_PACE = (short) 0xC1A4;
    short P1P2_MSE_SIGN = 0x41B6;
    short P1P2_MSE_AGREE = 0x41A6;
    short P1P2_MSE_EXPORT = 0x41B8;
    short P1P2_MSE_INTERNAL = 0x41A4;
    short P1P2_MSE_EXTERNAL = (short) 0x81A4;
    short P1P2_MSE_VERIFY = (short) 0x81B6;
    short P1P2_SIGN = (short) 0x9E9A;
    short P1P2_EXPORT = (short) 0x8680;
    short P1P2_VERIFY_CERTIFICATE = 0x00BE;
    short P1P2_VERIFY_SIGNATURE = 0x00A8;
    byte P1_GENERATE_NEW = (byte) 0x82;
    byte P1_GENERATE_REPLACE = (byte) 0xC2;
    byte P1_READ_PUBLIC = (byte) 0x81;

    byte P1_LIFE_CYCLE = 0x00;
    byte P1_PIN = 0x10;
    byte P1_PENDING = 0x20;
    byte P1_KEY = 0x21;
    byte P1_CHANGE_WITH_OLD = 0x00;
    byte P1_CHANGE_NEW = 0x01;
    byte P1_RESET_WITH_NEW = 0x02;
    byte P1_RESET_ONLY = 0x03;
    short P1P2_INCREASE = 0x0001;

    short KEY_TEMPLATE = 0xB6;
    short TAG_KEY_REFERENCE = 0x84;
    short TAG_CURVE = 0x80;
    short TAG_PUBLIC_KEY = 0x7F49;
    short TAG_PUBLIC_POINT = 0x86;
    short TAG_AGREE = 0x7C;
    short TAG_PEER_POINT = 0x85;
    short TAG_SHARED_SECRET = 0x86;

    short TAG_DIGEST = 0x9A;
    short TAG_SIGNATURE = 0x9E;

    short TAG_PUBLIC_REFERENCE = 0x83;
    short TAG_WRAPPED = 0x87;
    short TAG_CERTIFICATE_BODY = 0x7F4E;
    short TAG_CERTIFICATE_SIGNATURE = 0x5F37;
    short TAG_CERTIFICATE_HOLDER = 0x5F20;
    short TAG_FILE = 0x83;
    short TAG_FILE_SIZE = 0x80;
    short TAG_FILE_CONTROL = 0x62;
    short TAG_LIFE_CYCLE = 0x8A;
    short TAG_TRIES = 0x93;
    short TAG_DEACTIVATED = 0x95;
    short TAG_SERIAL = 0x5A;

    short TAG_OFFSET = 0x54;
    short TAG_DATA = 0x53;

    short MASTER_FILE = 0x3F00;
    byte PASSWORD_REFERENCE = 0x03;
    byte PIN_MIN_DIGITS = 10;
    byte PIN_MAX_DIGITS = 32;
    byte PIN_TRIES = 3;
    byte AUTHENTICATION_CHALLENGE_BYTES = 8;
    short CHALLENGE_MAX_BYTES = 256;
    byte EPHEMERAL_FIRST = 0x60;
    byte EPHEMERAL_COUNT = 8;
    byte SERVICE_FIRST = 0x50;
    byte SERVICE_COUNT = 4;

    byte PUBLIC_ROOT = 0x31;
    byte PUBLIC_ROOT_NEXT = (byte) 0xB1;
    byte PUBLIC_ADMINISTRATOR = 0x32;
    byte PUBLIC_PEER_1 = 0x38;
    byte PUBLIC_PEER_2 = 0x39;
    byte PUBLIC_PEER_3 = 0x3A;
    byte PUBLIC_PEER_4 = 0x3B;
    byte PUBLIC_VERIFIED = 0x3F;

    byte LIFE_INITIALISED = 0x03;
    byte LIFE_PRE_PERSONALISED = 0x13;
    byte LIFE_PERSONALISED = 0x15;
    byte LIFE_OPERATIONAL = 0x05;
    byte LIFE_TERMINATED = 0x0C;

    short FILE_CARD_ACCESS = 0x011C;
    short FILE_IDENTIFIERS = 0x0101;
    short FILE_CRYPTO_INFO = 0x0102;
    short FILE_CERTIFICATES = 0x0103;
    short FILE_OWN_DATA = 0x0104;
    short FILE_COUNTER = 0x0105;
    short FILE_STATUS = 0x0106;
    short SIZE_IDENTIFIERS = 4096;
    short SIZE_CERTIFICATES = 16384;
    short SIZE_OWN_DATA = 1024;
    short SIZE_COUNTER = 8;

    byte CURVE_P256 = 12;
    byte CURVE_BRAINPOOL_P256 = 13;
    byte CURVE_P384 = 15;
    byte CURVE_BRAINPOOL_P384 = 16;
    byte CURVE_BRAINPOOL_P512 = 17;

    short SW_OK = (short) 0x9000;
    short SW_MORE = 0x6100;
    short SW_END_OF_FILE = 0x6282;
    short SW_DEACTIVATED = 0x6283;
    short SW_TERMINATED = 0x6285;
    short SW_AUTHENTICATION_FAILED = 0x6300;
    short SW_COUNTER = 0x63C0;
    short SW_WRITE_FAILED = 0x6581;
    short SW_LENGTH = 0x6700;
    short SW_CHANNEL = 0x6881;
    short SW_SM_UNSUPPORTED = 0x6882;
    short SW_CHAIN_EXPECTED = 0x6883;
    short SW_CHAINING = 0x6884;
    short SW_SECURITY_STATUS = 0x6982;
    short SW_BLOCKED = 0x6983;
    short SW_UNUSABLE = 0x6984;
    short SW_CONDITIONS = 0x6985;
    short SW_NO_FILE_SELECTED = 0x6986;
    short SW_SM_MISSING = 0x6987;
    short SW_SM_WRONG = 0x6988;
    short SW_DATA = 0x6A80;
    short SW_NO_FILE = 0x6A82;
    short SW_MEMORY = 0x6A84;
    short SW_P1P2 = 0x6A86;
    short SW_REFERENCE = 0x6A88;
    short SW_EXISTS = 0x6A89;
    short SW_FILE_EXISTS = 0x6A8A;
    short SW_OFFSET = 0x6B00;
    short SW_INS = 0x6D00;
    short SW_CLA = 0x6E00;
    short SW_INTERNAL = 0x6F00;
}
