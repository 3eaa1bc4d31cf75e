"""Django's settings for Haulier: from the environment and the data directory alone."""

from django.core.exceptions import ImproperlyConfigured

from config import environment
from sessions_app.addresses import is_loopback

BASE_DIR = environment.BASE_DIR
DATA_DIR = environment.data_directory()
BIND_HOST, BIND_PORT = environment.bind_address()
IS_LOOPBACK = is_loopback(BIND_HOST)

DEBUG = False
SECRET_KEY = environment.secret_key(DATA_DIR)
SECRETS_KEYS = environment.secrets_keys(DATA_DIR)

# Login is off only where no other machine can knock.
NO_LOGIN = environment.is_on("HAULIER_NO_LOGIN", default=False)
if NO_LOGIN and not IS_LOOPBACK:
    raise ImproperlyConfigured(
        f"--no-login works on a loopback address only, not on {BIND_HOST}: "
        "anybody who reaches the port would be the owner."
    )

ALLOWED_HOSTS = [
    *environment.LOOPBACK,
    *([BIND_HOST] if BIND_HOST not in environment.EVERY_ADDRESS else []),
    *environment.words("HAULIER_ALLOWED_HOSTS"),
]

WORKERS = environment.whole_number("HAULIER_WORKERS", 3, low=1, high=64)
LEASE_S = environment.number("HAULIER_LEASE_S", 60, low=1, high=3600)
LOCAL_ROOTS = environment.words("HAULIER_LOCAL_ROOTS", ":") or (["/"] if IS_LOOPBACK else [])
HOST_KEYS = environment.choice("HAULIER_HOST_KEYS", "first-use", ("first-use", "strict"))
SSH_AGENT = environment.ssh_agent()
RETENTION = environment.retention()
QUEUE = environment.choice("HAULIER_QUEUE", "database", ("database",))
RATE_LIMITS = environment.is_on("HAULIER_RATE_LIMITS", default=True)

JOB_RUNNERS = {
    "scan": "migration_app.runners.scan.ScanRunner",
    "transfer": "migration_app.runners.transfer.TransferRunner",
    "verify": "migration_app.runners.verify.VerifyRunner",
}
# What `POST /api/sessions` and schedules do with a request of each type.
JOB_SUBMITTERS = {
    "scan": "migration_app.submitters.ScanSubmitter",
    "transfer": "migration_app.submitters.TransferSubmitter",
    "verify": "migration_app.submitters.VerifySubmitter",
}

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "django_eventstream",
    "django_tasks",
    "django_tasks_db",
    "sessions_app",
    "migration_app",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "csp.middleware.CSPMiddleware",
    "sessions_app.middleware.BodyLimitMiddleware",
    "sessions_app.middleware.MethodMiddleware",
    "sessions_app.middleware.DatabaseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "sessions_app.middleware.NoLoginMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "migration_app.pages.frame",
            ],
        },
    },
]

DATABASES = {"default": environment.database(DATA_DIR)}
# Threads stay, and so do their connections; one that has broken meanwhile is opened anew.
DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # IMMEDIATE takes the write lock at BEGIN: a transaction that reads first cannot fail when it
    # comes to write. FULL keeps an answered submit through a power cut; batches make it cheap.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; "
        # What a large deletion has blown up the log to is given back.
        "PRAGMA journal_size_limit=67108864;",
    }
    # A file, as in earnest: threads and WAL behave otherwise in memory.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TASKS = {
    "default": {
        "BACKEND": "django_tasks_db.DatabaseBackend",
        "QUEUES": ["prepare", "work"],
    }
}

AUTH_USER_MODEL = "sessions_app.User"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "start"
LOGOUT_REDIRECT_URL = "sign-in"

SESSION_COOKIE_NAME = "haulier_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = "haulier_csrf"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "sessions_app.problems.csrf_failure"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# Other front ends that may call the API from a browser.
CORS_ALLOWED_ORIGINS = environment.words("HAULIER_CORS_ORIGINS")
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_HEADERS = ["authorization", "content-type", "idempotency-key", "last-event-id"]
CORS_EXPOSE_HEADERS = ["X-Job-ID", "X-Total-Count", "Link", "Retry-After"]

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "worker-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "sessions_app.authentication.TokenAuthentication",
        "sessions_app.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["sessions_app.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "sessions_app.negotiation.OneFormat",
    "EXCEPTION_HANDLER": "sessions_app.exception_hook.handle_exception",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
SERVESTATIC_USE_FINDERS = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(processName)s[%(process)d] %(name)s: %(message)s"}
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "sessions_app": {"level": "INFO"},
        "migration_app": {"level": "INFO"},
        "django_tasks_db": {"level": "WARNING"},
        "django_tasks": {"level": "WARNING"},
        # What clients send wrong is answered, not logged.
        "django.request": {"level": "ERROR"},
        "django.security": {"level": "CRITICAL"},
    },
}
