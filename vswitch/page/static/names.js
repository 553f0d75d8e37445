// A field for a name, as members and tokens have.

import { h } from "./dom.js";
import { t } from "./texts.js";

export const nameInput = (value = "") => h("input", { value, required: true, maxlength: "63", pattern: "[a-z0-9\\-]+",
  title: t("name_help"), autocapitalize: "none", autocomplete: "off", spellcheck: "false" });
