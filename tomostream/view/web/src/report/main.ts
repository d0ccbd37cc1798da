import "./report.css";
import { mount } from "svelte";
import Report from "./Report.svelte";

const target = document.getElementById("app");
if (target === null) throw new Error("the page has no #app");
target.replaceChildren();
mount(Report, { target });
